//! Hardware addresses of links.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::problem::quoted;

/// The address of one station on a link: neither a group's nor all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = String;

    /// Six bytes in hexadecimal. Bit 0 of the first says whether it is a group's (IEEE 802).
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Vec<u8> = text
            .split([':', '-'])
            .filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .filter_map(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        match <[u8; 6]>::try_from(bytes) {
            Ok(address) if text.len() == 17 && address != [0; 6] && address[0] & 1 == 0 => Ok(Self(address)),
            Ok(address) if text.len() == 17 && address[0] & 1 == 1 => Err(format!(
                "must be the address of one station, and {text} is a group's"
            )),
            _ => Err(format!(
                "must be a hardware address such as `02:00:00:00:00:07`, not {}",
                quoted(text)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_six_bytes_of_one_link() {
        let mac: MacAddress = "02:42:AC:11:00:02".parse().unwrap();
        assert_eq!(mac, MacAddress([2, 0x42, 0xac, 0x11, 0, 2]));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        for wrong in [
            "",
            "02:42",
            "01:00:5e:00:00:01",
            "02:42:ac:11:00:0",
            "+2:42:ac:11:00:02",
            "zz:42:ac:11:00:02",
            "00:00:00:00:00:00",
        ] {
            assert!(wrong.parse::<MacAddress>().is_err(), "{wrong}");
        }
    }
}
