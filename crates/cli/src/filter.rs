//! `--filter KEY=VALUE` as Docker's listings take it: a key is met by any of its values, several keys by all of them.

use linkspan_site::nearest;

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) key: &'static str,
    pub(crate) value: String,
}

impl Filter {
    /// For clap; `known` are the keys of the verb.
    pub(crate) fn parse(text: &str, known: &'static [&'static str]) -> Result<Self, String> {
        let all = || known.join(", ");
        let Some((key, value)) = text.split_once('=') else {
            return Err(format!("write it as KEY=VALUE; the keys are {}", all()));
        };
        let key = key.trim();
        match known.iter().find(|one| one.eq_ignore_ascii_case(key)) {
            Some(key) => Ok(Self {
                key,
                value: value.trim().to_owned(),
            }),
            None => Err(match nearest(key, known.iter().copied()) {
                Some(near) => format!("no filter `{key}`; did you mean `{near}`?"),
                None => format!("no filter `{key}`; there are {}", all()),
            }),
        }
    }
}

/// True when the thing that `meets` knows passes them all.
pub(crate) fn admits(filters: &[Filter], meets: impl Fn(&Filter) -> bool) -> bool {
    filters
        .iter()
        .all(|one| filters.iter().any(|other| other.key == one.key && meets(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["name", "driver"];

    fn filter(text: &str) -> Filter {
        Filter::parse(text, &KNOWN).unwrap()
    }

    #[test]
    fn a_key_takes_any_of_its_values_and_keys_add_up() {
        let passes = |filters: &[Filter], name: &str, driver: &str| {
            admits(filters, |filter| match filter.key {
                "name" => filter.value == name,
                _ => filter.value == driver,
            })
        };
        let filters = [filter("name=a"), filter("name=b"), filter("driver=bridge")];
        assert!(passes(&filters, "a", "bridge") && passes(&filters, "b", "bridge"));
        assert!(!passes(&filters, "c", "bridge") && !passes(&filters, "a", "macvlan"));
        assert!(passes(&[], "a", "b"));
    }

    #[test]
    fn a_misspelt_key_is_put_right() {
        let refused = |text| Filter::parse(text, &KNOWN).unwrap_err();
        assert_eq!(refused("drvier=x"), "no filter `drvier`; did you mean `driver`?");
        assert_eq!(refused("colour=x"), "no filter `colour`; there are name, driver");
        assert_eq!(
            refused("name"),
            "write it as KEY=VALUE; the keys are name, driver"
        );
        assert_eq!(filter(" Name = x=y ").value, "x=y");
    }
}
