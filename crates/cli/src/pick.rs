//! Which containers are meant: by name, by id, or by the name that a file gives them.

use linkspan_api::v1::ContainerView;

use crate::failure::Misuse;

/// The containers that `wanted` names.
///
/// A full name wins over an id, an id over the start of one, that over a service of `project`, and that over a
/// service of any other project.
pub(crate) fn pick<'a>(
    all: &'a [ContainerView],
    wanted: &str,
    project: Option<&str>,
) -> Result<Vec<&'a ContainerView>, Misuse> {
    if let Some(one) = all
        .iter()
        .find(|container| container.name == wanted || container.id == wanted)
    {
        return Ok(vec![one]);
    }
    let by_service = |accept: &dyn Fn(&ContainerView) -> bool| -> Vec<&'a ContainerView> {
        let mut found: Vec<_> = all
            .iter()
            .filter(|c| c.service.as_deref() == Some(wanted) && accept(c))
            .collect();
        found.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)));
        found
    };
    let own = by_service(&|container| project.is_some() && container.project.as_deref() == project);
    if !own.is_empty() {
        return Ok(own);
    }
    // `project/service`, as routes and events write it.
    if let Some((project, service)) = wanted.split_once('/') {
        let found: Vec<_> = all
            .iter()
            .filter(|c| c.project.as_deref() == Some(project) && c.service.as_deref() == Some(service))
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let begins: Vec<_> = all
        .iter()
        .filter(|container| container.id.starts_with(wanted))
        .collect();
    match begins.as_slice() {
        [one] if !wanted.is_empty() => return Ok(vec![one]),
        [_, _, ..] if wanted.len() >= 4 => {
            return Err(Misuse::new(format!(
                "{} containers have an id that begins with `{wanted}`",
                begins.len()
            )));
        }
        _ => {}
    }
    let any = by_service(&|_| true);
    let mut projects: Vec<&str> = any
        .iter()
        .filter_map(|container| container.project.as_deref())
        .collect();
    projects.dedup();
    projects.sort_unstable();
    projects.dedup();
    match (any.is_empty(), projects.as_slice()) {
        (true, _) => Err(Misuse::new(format!(
            "no container `{wanted}`; `linkspan ps -a` lists all"
        ))),
        (false, [] | [_]) => Ok(any),
        (false, [first, ..]) => Err(Misuse::new(format!(
            "`{wanted}` is in several projects ({}); write `{first}/{wanted}`",
            projects.join(", ")
        ))),
    }
}

/// The one container that `wanted` names; of several replicas the first that runs.
pub(crate) fn pick_one<'a>(
    all: &'a [ContainerView],
    wanted: &str,
    project: Option<&str>,
) -> Result<&'a ContainerView, Misuse> {
    let found = pick(all, wanted, project)?;
    let running = found.iter().find(|container| container.state == "running");
    running
        .or(found.first())
        .copied()
        .ok_or_else(|| Misuse::new(format!("no container `{wanted}`; `linkspan ps -a` lists all")))
}

/// All containers of a project, in order.
pub(crate) fn of_project<'a>(all: &'a [ContainerView], project: &str) -> Vec<&'a ContainerView> {
    let mut found: Vec<_> = all
        .iter()
        .filter(|c| c.project.as_deref() == Some(project))
        .collect();
    found.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)));
    found
}

/// A key by which `web-2` comes before `web-10`.
fn natural(name: &str) -> (&str, u64) {
    match name.rsplit_once('-') {
        Some((stem, number)) => (stem, number.parse().unwrap_or(u64::MAX)),
        None => (name, 0),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn container(
        id: &str,
        project: &str,
        service: &str,
        number: u32,
        state: &str,
    ) -> ContainerView {
        ContainerView {
            id: id.to_owned(),
            name: format!("{project}-{service}-{number}"),
            project: Some(project.to_owned()),
            service: Some(service.to_owned()),
            image: "web:1".to_owned(),
            command: "nginx -g 'daemon off;'".to_owned(),
            state: state.to_owned(),
            status: "Up 5 minutes".to_owned(),
            health: None,
            created: 0,
            pid: None,
            exit_code: None,
            restarts: 0,
            ports: Vec::new(),
            networks: Default::default(),
        }
    }

    fn names<'a>(found: &[&'a ContainerView]) -> Vec<&'a str> {
        found.iter().map(|container| container.name.as_str()).collect()
    }

    fn all() -> Vec<ContainerView> {
        vec![
            container("abcd1", "shop", "web", 10, "running"),
            container("abcd2", "shop", "web", 2, "exited"),
            container("ef003", "blog", "web", 1, "running"),
            container("ef004", "blog", "db", 1, "running"),
        ]
    }

    #[test]
    fn names_ids_and_services_are_understood() {
        let all = all();
        assert_eq!(names(&pick(&all, "shop-web-2", None).unwrap()), ["shop-web-2"]);
        assert_eq!(names(&pick(&all, "ef004", None).unwrap()), ["blog-db-1"]);
        assert_eq!(names(&pick(&all, "ef004", None).unwrap()), ["blog-db-1"]);
        assert_eq!(names(&pick(&all, "db", None).unwrap()), ["blog-db-1"]);
        assert_eq!(
            names(&pick(&all, "web", Some("shop")).unwrap()),
            ["shop-web-2", "shop-web-10"]
        );
        assert_eq!(
            names(&pick(&all, "blog/web", Some("shop")).unwrap()),
            ["blog-web-1"]
        );
        assert_eq!(names(&of_project(&all, "shop")), ["shop-web-2", "shop-web-10"]);
    }

    #[test]
    fn what_could_be_two_things_is_refused_with_a_way_out() {
        let all = all();
        assert_eq!(
            pick(&all, "web", None).unwrap_err().to_string(),
            "`web` is in several projects (blog, shop); write `blog/web`"
        );
        assert_eq!(
            pick(&all, "abcd", None).unwrap_err().to_string(),
            "2 containers have an id that begins with `abcd`"
        );
        assert_eq!(
            pick(&all, "nope", None).unwrap_err().to_string(),
            "no container `nope`; `linkspan ps -a` lists all"
        );
        assert!(pick(&all, "", None).is_err());
    }

    #[test]
    fn of_several_replicas_the_first_that_runs_is_taken() {
        let all = all();
        assert_eq!(pick_one(&all, "web", Some("shop")).unwrap().name, "shop-web-10");
    }
}
