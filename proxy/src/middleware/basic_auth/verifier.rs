//! The threads that compute hashes of passwords, and the short queue before them.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use linkspan_site::PasswordHash;
use tokio::sync::oneshot;

use super::verify;

/// Passwords verified at once.
const THREADS: usize = 2;
/// Passwords that may wait. With the usual cost of a hash, the last one waits for a few seconds.
const WAITING: usize = 64;

struct Job {
    hash: PasswordHash,
    password: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

/// Where passwords are handed in. The threads end when the last of these is gone.
#[derive(Debug, Clone)]
pub(crate) struct Verifier(SyncSender<Job>);

impl Verifier {
    pub(crate) fn start() -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (sender, jobs) = sync_channel(WAITING);
        let jobs = Arc::new(Mutex::new(jobs));
        let thread = |index| {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new()
                .name(format!("verifier-{index}"))
                .spawn(move || run(&jobs))
        };
        let threads = (0..THREADS).map(thread).collect::<io::Result<_>>()?;
        Ok((Self(sender), threads))
    }

    /// Is it the password? `None`: too many wait for an answer already.
    pub(crate) async fn verify(&self, hash: PasswordHash, password: Vec<u8>) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        self.0
            .try_send(Job {
                hash,
                password,
                answer,
            })
            .ok()?;
        answered.await.ok()
    }
}

fn run(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // Locked only while waiting: whoever got a job lets the next thread wait.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Its client may have left meanwhile.
        if !job.answer.is_closed() {
            let right = verify::is_right(&job.hash, &job.password);
            job.answer.send(right).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_may_wait_are_turned_away_and_the_threads_end_with_the_last_sender() {
        let (verifier, threads) = Verifier::start().unwrap();
        let sha = PasswordHash::Sha1("W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned());
        assert_eq!(
            verifier.verify(sha.clone(), b"password".to_vec()).await,
            Some(true)
        );
        assert_eq!(verifier.verify(sha, b"passwort".to_vec()).await, Some(false));
        drop(verifier);
        for thread in threads {
            thread.join().unwrap();
        }
        let (sender, _jobs) = sync_channel(1);
        let full = Verifier(sender);
        let sha = PasswordHash::Sha1(String::new());
        let (first, second) = tokio::join!(
            biased_once(full.verify(sha.clone(), vec![])),
            full.verify(sha, vec![])
        );
        assert_eq!((first, second), (None, None));
    }

    /// Polls once: the job is handed in, and nobody answers.
    async fn biased_once(verify: impl Future<Output = Option<bool>>) -> Option<bool> {
        tokio::select! {
            biased;
            answer = verify => answer,
            () = tokio::task::yield_now() => None,
        }
    }
}
