//! Fields by which a browser is told to be careful. What the upstream says itself is left as it is: it knows its pages.

use http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use linkspan_site::{Frame, SecurityHeaders};

/// The preset of a route.
#[derive(Debug)]
pub(crate) struct Preset {
    /// Over https only: over http it must not be sent (RFC 6797 §7.2).
    hsts: Option<HeaderValue>,
    others: Vec<(HeaderName, HeaderValue)>,
}

impl Preset {
    pub(crate) fn compile(preset: &SecurityHeaders) -> Self {
        let hsts = preset.hsts.and_then(|seconds| {
            let subdomains = if preset.hsts_subdomains {
                "; includeSubDomains"
            } else {
                ""
            };
            HeaderValue::try_from(format!("max-age={seconds}{subdomains}")).ok()
        });
        let frame = preset.frame.map(|frame| match frame {
            Frame::SameOrigin => "SAMEORIGIN",
            Frame::Deny => "DENY",
        });
        let written = [
            (X_CONTENT_TYPE_OPTIONS, preset.nosniff.then_some("nosniff")),
            (X_FRAME_OPTIONS, frame),
            (REFERRER_POLICY, Some(preset.referrer.as_str())),
            (CONTENT_SECURITY_POLICY, preset.content_security_policy.as_deref()),
            (
                HeaderName::from_static("permissions-policy"),
                preset.permissions.as_deref(),
            ),
        ];
        let others = written
            .into_iter()
            .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value?).ok()?)))
            .collect();
        Self { hsts, others }
    }

    pub(crate) fn apply(&self, headers: &mut HeaderMap, https: bool) {
        let hsts = self.hsts.as_ref().filter(|_| https);
        let hsts = hsts.map(|value| (&STRICT_TRANSPORT_SECURITY, value));
        let others = self.others.iter().map(|(name, value)| (name, value));
        for (name, value) in others.chain(hsts) {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6797_section_7_2_hsts_is_sent_over_https_only_and_what_the_upstream_says_stays() {
        let preset = Preset::compile(&SecurityHeaders::default());
        let mut headers = HeaderMap::new();
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        preset.apply(&mut headers, false);
        assert!(!headers.contains_key(STRICT_TRANSPORT_SECURITY));
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        preset.apply(&mut headers, true);
        assert_eq!(headers[STRICT_TRANSPORT_SECURITY], "max-age=31536000");
    }
}
