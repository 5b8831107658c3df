//! Every request has an id, in both logs the same: the client's own if it is sane, else a new one.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field that carries it.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id taken from a client, in bytes.
const MAX: usize = 128;

/// The id of a request, which carries it from now on. `random` makes a new one.
pub(crate) fn assign(headers: &mut HeaderMap, random: impl FnOnce() -> u128) -> HeaderValue {
    let mut given = headers.get_all(X_REQUEST_ID).iter();
    let sane = |id: &&HeaderValue| {
        (1..=MAX).contains(&id.len()) && id.as_bytes().iter().all(|b| (b' '..=b'~').contains(b))
    };
    if let (Some(id), None) = (given.next().filter(sane), given.next()) {
        return id.clone();
    }
    let id =
        HeaderValue::from_bytes(&hexadecimal(random())).unwrap_or_else(|_| HeaderValue::from_static("-"));
    headers.insert(X_REQUEST_ID, id.clone());
    id
}

fn hexadecimal(number: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| DIGITS[(number >> ((31 - at) * 4) & 0xf) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_of_the_client_is_kept_and_anything_else_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("abc-1"));
        assert_eq!(assign(&mut headers, || 7), "abc-1");
        headers.append(X_REQUEST_ID, HeaderValue::from_static("second"));
        assert_eq!(assign(&mut headers, || 7), "00000000000000000000000000000007");
        headers.insert(X_REQUEST_ID, HeaderValue::try_from("x".repeat(129)).unwrap());
        assert_eq!(assign(&mut headers, || 8), "00000000000000000000000000000008");
        assert_eq!(headers.get_all(X_REQUEST_ID).iter().count(), 1);
    }
}
