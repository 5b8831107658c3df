//! Times, sizes and spans, as people say and type them.

use std::time::Duration;

/// How long, in Docker's words: `About a minute`, `3 hours`.
pub(crate) fn span(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1_800) / 3_600);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// `5 minutes ago`, both in seconds since the epoch; a time to come (clocks differ) counts as now.
pub(crate) fn ago(then: i64, now: i64) -> String {
    format!(
        "{} ago",
        span(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
    )
}

/// Seconds since the epoch.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// `7.84MB`: three digits, thousands, as Docker writes sizes.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 would be rounded to 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    let number = format!("{value:.digits$}");
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        &number
    };
    format!("{number}{}", UNITS[unit])
}

/// `90`, `90s`, `2m`, `1h30m`: seconds when there's no unit. For clap.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || "write seconds, or a number with a unit: `90`, `90s`, `2m`, `1h30m`".to_owned();
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

/// A time, in seconds since the epoch: RFC 3339, a date, seconds since the epoch, or a span before now. For clap.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    parse_moment(text).map(|moment| moment.div_euclid(1_000))
}

/// [`parse_time`] in milliseconds. For clap.
pub(crate) fn parse_moment(text: &str) -> Result<i64, String> {
    parse_moment_at(text, jiff::Timestamp::now().as_millisecond())
}

fn parse_moment_at(text: &str, now: i64) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds.saturating_mul(1_000));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    if let Ok(date) = text.parse::<jiff::civil::DateTime>()
        && let Ok(zoned) = date.to_zoned(jiff::tz::TimeZone::system())
    {
        return Ok(zoned.timestamp().as_millisecond());
    }
    match parse_span(text) {
        Ok(span) => Ok(now.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))),
        Err(_) => Err(
            "write a time (`2026-05-01T12:00:00Z`, `2026-05-01`) or how long ago (`10m`, `2h`)".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_worded_as_docker_words_them() {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 3_600;
        const DAY: u64 = 24 * HOUR;
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (MINUTE, "About a minute"),
            (119, "About a minute"),
            (5 * MINUTE, "5 minutes"),
            (59 * MINUTE, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 29 * MINUTE, "About an hour"),
            (HOUR + 31 * MINUTE, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ];
        for (seconds, words) in cases {
            assert_eq!(span(seconds), words, "{seconds} s");
        }
    }

    #[test]
    fn a_time_to_come_is_now_and_not_in_580_billion_years() {
        assert_eq!(ago(100, 100 - 7), "Less than a second ago");
        assert_eq!(ago(i64::MIN, i64::MAX), format!("{} ago", span(i64::MAX as u64)));
        assert_eq!(ago(0, 300), "5 minutes ago");
    }

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1kB"),
            (7_840_000, "7.84MB"),
            (12_300_000, "12.3MB"),
            (999_400_000, "999MB"),
            (999_999_999, "1GB"),
            (133_000_000, "133MB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text, "{bytes} bytes");
        }
    }

    #[test]
    fn spans_may_be_typed_with_and_without_a_unit() {
        assert_eq!(parse_span("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_span("120s"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_span("1h30m"), Ok(Duration::from_secs(5_400)));
        for wrong in ["", "-5s", "soon", "5 parsecs"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_may_be_absolute_or_ago() {
        assert_eq!(parse_moment_at("10m", 1_000_500), Ok(400_500));
        assert_eq!(parse_moment_at("1970-01-01T00:01:00.25Z", 9), Ok(60_250));
        assert_eq!(parse_moment_at("1700000000", 9), Ok(1_700_000_000_000));
        assert!(parse_moment_at("yesterday-ish", 9).is_err());
        assert_eq!(parse_time("1969-12-31T23:59:59.5Z"), Ok(-1));
    }
}
