//! An endpoint that neither takes the request nor answers it, for how long?

use std::pin::pin;

use crate::body::Progress;

/// Waits for an answer as long as something happens. Each byte of the request that goes out is something, so an upload
/// may take its time. `None` when nothing has happened for a pause, which is noticed before twice as long.
pub(super) async fn broken_by<T, P: Future<Output = ()>>(
    answer: impl Future<Output = T>,
    progress: &Progress,
    mut pause: impl FnMut() -> P,
) -> Option<T> {
    let mut answer = pin!(answer);
    loop {
        let sent = progress.bytes.get();
        tokio::select! {
            biased;
            answer = answer.as_mut() => return Some(answer),
            () = pause() => {}
        }
        if progress.bytes.get() == sent {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn an_upload_of_ten_hours_is_waited_for_and_silence_is_not() {
        let (progress, mut pauses) = (Progress::default(), 0);
        // Within each pause of ten minutes a byte goes out, sixty times.
        let upload = poll_fn(|_| {
            progress.bytes.set(progress.bytes.get() + 1);
            match progress.bytes.get() {
                61 => Poll::Ready("answer"),
                _ => Poll::Pending,
            }
        });
        let mut pause = || {
            pauses += 1;
            ready(())
        };
        assert_eq!(broken_by(upload, &progress, &mut pause).await, Some("answer"));
        assert_eq!(broken_by(pending::<()>(), &progress, &mut pause).await, None);
        // One begins with each look at the answer; of silence one is enough.
        assert_eq!(pauses, 61 + 1);
    }
}
