//! `rate_limit` and `concurrency`.

use super::headers::is_token;
use crate::fields::Fields;
use crate::keys::RATE_LIMIT;
use crate::problem::Report;
use crate::yaml::Value;
use crate::{BURST_MAX, RATE_MAX, RateKey, RateLimit};

/// Most requests at once that can be asked for.
const MOST_AT_ONCE: i64 = 1_000_000;

pub(super) fn rate(fields: &Fields<'_>, report: &mut Report) -> Option<RateLimit> {
    let node = fields.get("rate_limit", report)?;
    if !matches!(node.value, Value::Map(_)) {
        let (count, period) = report.parsed("rate_limit", node, self::rate_text)?;
        return Some(RateLimit {
            count,
            period,
            burst: count,
            by: RateKey::Address,
        });
    }
    let fields = Fields::read(node, &RATE_LIMIT, report)?;
    let rate = fields
        .required("rate", node.span, "such as `10/s`", report)
        .and_then(|node| report.parsed("rate", node, self::rate_text));
    let burst = fields
        .get("burst", report)
        .map(|node| report.whole("burst", node, 1, MOST_AT_ONCE));
    let by = match fields.entry("by") {
        Some(_) => fields.parsed("by", report, key),
        None => Some(RateKey::Address),
    };
    let (count, period) = rate?;
    let burst = match burst {
        Some(burst) => u32::try_from(burst?).ok()?,
        None => count,
    };
    let earned_in = u64::from(burst) * u64::from(period) / u64::from(count);
    if earned_in > BURST_MAX {
        report
            .at(node.span, "such a burst would take more than 30 days to earn")
            .hint("make `burst` smaller or `rate` higher");
        return None;
    }
    Some(RateLimit {
        count,
        period,
        burst,
        by: by?,
    })
}

/// `10/s`: so many in so many seconds.
fn rate_text(text: &str) -> Result<(u32, u32), &'static str> {
    const FORM: &str = "must be a rate such as `10/s`, `100/m`, `1000/h` or `5000/d`";
    let (count, unit) = text.trim().split_once('/').ok_or(FORM)?;
    let count: u32 = count.trim_end().parse().map_err(|_| FORM)?;
    let period = match unit.trim_start() {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(FORM),
    };
    match count {
        0 => Err("must let something in: for nobody, write `allow`"),
        _ if u64::from(count) > u64::from(RATE_MAX) * u64::from(period) => {
            Err("is more than 10000 in a second, which is no limit")
        }
        _ => Ok((count, period)),
    }
}

fn key(text: &str) -> Result<RateKey, &'static str> {
    match text.trim() {
        "address" => Ok(RateKey::Address),
        "route" => Ok(RateKey::Route),
        other => match other.strip_prefix("header ").map(str::trim) {
            Some(name) if is_token(name) => Ok(RateKey::Header(name.to_ascii_lowercase())),
            _ => Err("must be `address`, `route` or `header NAME`"),
        },
    }
}

pub(super) fn concurrency(fields: &Fields<'_>, report: &mut Report) -> Option<u32> {
    let node = fields.get("concurrency", report)?;
    let most = report.whole("concurrency", node, 1, MOST_AT_ONCE)?;
    u32::try_from(most).ok()
}
