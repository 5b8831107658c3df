//! Amounts as people write them: `512m`, `1m30s`, `0.5`.

use std::time::Duration;

/// The longest time that a file may ask for: a year.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Why a text is no amount; ends a sentence that begins with the key.
pub(crate) type Rule = &'static str;

/// Bytes: a number with `b`, `k`, `m`, `g` or `t` (powers of 1024, `kb` and `kib` alike), or none for bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, Rule> {
    const FORM: Rule = "must be a size such as `512m` or `1.5g`";
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(FORM),
    };
    let (whole, fraction) = decimal(number).ok_or(FORM)?;
    let size = whole
        .checked_mul(1 << shift)
        .filter(|size| *size < 1 << 62)
        .ok_or("is larger than any machine")?;
    Ok(size + ((u128::from(fraction) << shift) / u128::from(NANO)) as u64)
}

/// A time as Go and Compose write it: `1h`, `1m30s`, `500ms`, `1.5s`.
pub(crate) fn duration(text: &str) -> Result<Duration, Rule> {
    const FORM: Rule = "must be a time such as `30s` or `1m30s`";
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(FORM);
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or("has no unit: write `30s` or `1m30s`")?;
        let (number, tail) = rest.split_at(end);
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len()),
        );
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(FORM),
        };
        let (whole, fraction) = decimal(number).ok_or(FORM)?;
        nanos += u128::from(whole) * scale + u128::from(fraction) * scale / u128::from(NANO);
        if nanos > LONGEST.as_nanos() {
            return Err("is longer than a year");
        }
        rest = tail;
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// Cores, in thousandths.
pub(crate) fn cpus(text: &str) -> Result<u64, Rule> {
    const FORM: Rule = "must be a number of cores such as `0.5` or `2`";
    let (whole, fraction) = decimal(text.trim()).ok_or(FORM)?;
    let millis = whole
        .saturating_mul(1_000)
        .saturating_add(fraction / (NANO / 1_000));
    match millis {
        0..10 => Err("must be 0.01 or more"),
        10..=8_192_000 => Ok(millis),
        _ => Err("is more cores than any machine has"),
    }
}

/// Permission bits in octal, with or without `0` or `0o` before them.
pub(crate) fn mode(text: &str) -> Result<u32, Rule> {
    let digits = text.trim().trim_start_matches("0o");
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or("must be permissions in octal such as `1777`")
}

const NANO: u64 = 1_000_000_000;

/// The whole part, and the fraction in billionths.
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() > 18 {
        return None;
    }
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = format!("{:0<9}", fraction.get(..fraction.len().min(9))?)
        .parse()
        .ok()?;
    Some((whole, fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, size) in [
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("1024", 1024),
            ("64k", 65536),
            ("1 GB", 1 << 30),
            ("2kib", 2048),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1e9", "99999999999t", "1.2.3m", "0x10"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_as_in_compose() {
        for (text, millis) in [
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("0", 0),
            ("0s", 0),
            ("1h1m", 3_660_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["30", "", "s", "1m30", "-1s", "1y", "9999999h", "1..s", ".s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cores_and_modes() {
        assert_eq!(cpus("0.5"), Ok(500));
        assert_eq!(cpus("2"), Ok(2000));
        assert_eq!(cpus(".25"), Ok(250));
        assert!(cpus("0").is_err());
        assert!(cpus("1e3").is_err());
        assert_eq!(mode("1777"), Ok(0o1777));
        assert_eq!(mode("0o755"), Ok(0o755));
        assert!(mode("888").is_err());
    }
}
