//! Fields that a route sets, adds and removes, on either way.
//!
//! Fields of the connection and of the framing can't be among them: a site that names one is refused.

use http::{HeaderMap, HeaderName, HeaderValue};
use linkspan_site::HeaderRules;

/// The rules of a route for one way. None names a field that another one names too, so their order doesn't matter.
#[derive(Debug)]
pub(crate) struct Rules {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl Rules {
    /// `None` when nothing changes.
    pub(crate) fn compile(rules: &HeaderRules) -> Option<Self> {
        if *rules == HeaderRules::default() {
            return None;
        }
        let name = |name: &String| HeaderName::try_from(name).ok();
        let fields = |fields: &[(String, String)]| -> Vec<_> {
            let field = |(n, value): &(String, String)| Some((name(n)?, HeaderValue::try_from(value).ok()?));
            fields.iter().filter_map(field).collect()
        };
        Some(Self {
            set: fields(&rules.set),
            add: fields(&rules.add),
            remove: rules.remove.iter().filter_map(name).collect(),
        })
    }

    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_set_added_and_removed_whatever_their_case_and_number() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let rules = Rules::compile(&HeaderRules {
            set: vec![pair("x-set", "new")],
            add: vec![pair("x-add", "second")],
            remove: vec!["x-gone".to_owned()],
        })
        .unwrap();
        let mut headers = HeaderMap::new();
        for name in ["X-Set", "X-Add", "X-Gone", "X-Set", "X-Gone"] {
            headers.append(
                HeaderName::try_from(name).unwrap(),
                HeaderValue::from_static("first"),
            );
        }
        rules.apply(&mut headers);
        let values = |name: &str| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(values("x-set"), ["new"]);
        assert_eq!(values("x-add"), ["first", "second"]);
        assert!(values("x-gone").is_empty());
        assert!(Rules::compile(&HeaderRules::default()).is_none());
    }
}
