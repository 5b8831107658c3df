//! `linkspan routes`.

use linkspan_api::client::Client;
use linkspan_api::v1::RouteView;

use crate::args::Format;
use crate::table::Table;
use crate::terminal::{print, print_json};

/// List routes: which hostname leads where, and whether it answers
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  linkspan routes")]
pub(crate) struct Routes {
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Routes {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let routes = client.routes().await?;
        match self.format {
            Format::Json => print_json(&routes),
            Format::Table => print(&render(&routes)),
        }
    }
}

fn render(routes: &[RouteView]) -> String {
    let mut table = Table::new(&["HOST", "TARGET", "STATE", "PROJECT", "URL"]);
    for route in routes {
        table.row([
            &route.host,
            &route.target,
            &route.state,
            &route.project,
            route.url.as_deref().unwrap_or("-"),
        ]);
    }
    table.render()
}

/// For the end of `up`: URLs that answer, then what doesn't yet.
pub(crate) fn summary(routes: &[RouteView], project: &str) -> String {
    let own: Vec<&RouteView> = routes.iter().filter(|route| route.project == project).collect();
    let label =
        |route: &RouteView| crate::terminal::clean(route.url.as_deref().unwrap_or(&route.host)).into_owned();
    let width = own
        .iter()
        .map(|route| label(route).chars().count())
        .max()
        .unwrap_or(0);
    own.iter()
        .map(|route| {
            let (target, state) = (
                crate::terminal::clean(&route.target),
                crate::terminal::clean(&route.state),
            );
            let label = label(route);
            format!(
                "  {}\n",
                format!("{label:<width$}  → {target}  {state}").trim_end()
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn route(host: &str, project: &str, url: Option<&str>, state: &str) -> RouteView {
        RouteView {
            host: host.to_owned(),
            project: project.to_owned(),
            target: "web:3000".to_owned(),
            state: state.to_owned(),
            url: url.map(str::to_owned),
        }
    }

    fn routes() -> [RouteView; 3] {
        [
            route(
                "shop.example.com/",
                "shop",
                Some("https://shop.example.com/"),
                "ready 2/2",
            ),
            route("*.preview.example.com", "shop", None, "down: stopped"),
            route(
                "blog.example.com",
                "blog",
                Some("https://blog.example.com/"),
                "ready 1/1",
            ),
        ]
    }

    #[test]
    fn routes_are_a_table() {
        expect![[r#"
            HOST                    TARGET     STATE           PROJECT   URL
            shop.example.com/       web:3000   ready 2/2       shop      https://shop.example.com/
            *.preview.example.com   web:3000   down: stopped   shop      -
            blog.example.com        web:3000   ready 1/1       blog      https://blog.example.com/
        "#]]
        .assert_eq(&render(&routes()));
    }

    #[test]
    fn up_ends_with_the_urls_of_its_own_site() {
        expect![[r#"
            up
              https://shop.example.com/  → web:3000  ready 2/2
              *.preview.example.com      → web:3000  down: stopped
        "#]]
        .assert_eq(&format!("up\n{}", summary(&routes(), "shop")));
    }
}
