//! Which network is meant: by its name on this host, or by the name that the site's file here gives it.

use linkspan_api::v1::NetworkView;
use linkspan_site::nearest;

use crate::failure::Misuse;

/// The network that `wanted` names. A name on this host wins over one in the file of `project`.
pub(super) fn named<'a>(
    all: &'a [NetworkView],
    wanted: &str,
    project: Option<&str>,
) -> Result<&'a NetworkView, Misuse> {
    let find = |name: &str| all.iter().find(|network| network.name == name);
    let own = || project.and_then(|project| find(&format!("{project}_{wanted}")));
    find(wanted).or_else(own).ok_or_else(|| {
        let names = all.iter().map(|network| network.name.as_str());
        let hint = match nearest(wanted, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`linkspan network ls` lists all".to_owned(),
        };
        Misuse::new(format!("no network `{wanted}`; {hint}"))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn network(name: &str, project: Option<&str>) -> NetworkView {
        NetworkView {
            name: name.to_owned(),
            project: project.map(str::to_owned),
            driver: "bridge".to_owned(),
            subnets: vec!["10.201.3.0/24".to_owned(), "fd6c:1::/64".to_owned()],
            internal: false,
            isolated: false,
            containers: 2,
            state: "ok".to_owned(),
            labels: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn the_hosts_name_wins_over_the_files() {
        let all = [
            network("shop_lan", Some("shop")),
            network("lan", None),
            network("shop_default", Some("shop")),
        ];
        let found = |wanted, project| named(&all, wanted, project).map(|network| network.name.as_str());
        assert_eq!(found("lan", Some("shop")).unwrap(), "lan");
        assert_eq!(found("default", Some("shop")).unwrap(), "shop_default");
        assert_eq!(found("shop_default", None).unwrap(), "shop_default");
        assert_eq!(
            found("backend", None).unwrap_err().to_string(),
            "no network `backend`; `linkspan network ls` lists all"
        );
        assert_eq!(
            found("default", None).unwrap_err().to_string(),
            "no network `default`; did you mean `shop_default`?"
        );
    }
}
