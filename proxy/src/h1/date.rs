//! The `Date` of responses that came without one (RFC 9110 §6.6.1), made once a second.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

thread_local! {
    static NOW: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Lends the present time as HTTP writes it.
pub(super) fn with_now<T>(use_it: impl FnOnce(&[u8]) -> T) -> T {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    NOW.with_borrow_mut(|(second, text)| {
        if *second != since_epoch {
            *second = since_epoch;
            *text = written(since_epoch);
        }
        use_it(text.as_bytes())
    })
}

fn written(second: u64) -> String {
    let time = i64::try_from(second)
        .ok()
        .and_then(|second| jiff::Timestamp::from_second(second).ok());
    time.unwrap_or_default()
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9110_section_5_6_7_a_date_has_one_form() {
        assert_eq!(written(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        with_now(|now| assert_eq!(now.len(), 29));
    }
}
