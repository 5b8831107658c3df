//! `linkspan ps`.

use linkspan_api::client::Client;
use linkspan_api::v1::ContainerView;

use crate::args::Format;
use crate::quantity;
use crate::table::Table;
use crate::terminal::{cut, print, print_json};

/// List containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan ps -a
  linkspan ps --format json | jq -r '.[] | select(.health == \"unhealthy\").name'")]
pub(crate) struct Ps {
    /// Also those that don't run
    #[arg(short, long)]
    all: bool,
    /// Only ids
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Ids and commands in full
    #[arg(long)]
    no_trunc: bool,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Ps {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let containers = client.containers(self.all).await?;
        if self.quiet {
            let ids: Vec<_> = containers
                .iter()
                .map(|c| format!("{}\n", short(&c.id, self.no_trunc)))
                .collect();
            return print(&ids.concat());
        }
        match self.format {
            Format::Json => print_json(&containers),
            Format::Table => print(&render(&containers, quantity::now(), self.no_trunc)),
        }
    }
}

fn render(containers: &[ContainerView], now: i64, no_trunc: bool) -> String {
    let mut table = Table::new(&[
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ]);
    for container in containers {
        let command = if no_trunc {
            container.command.as_str().into()
        } else {
            cut(&container.command, 20)
        };
        table.row([
            short(&container.id, no_trunc),
            &container.image,
            &format!("\"{command}\""),
            &quantity::ago(container.created, now),
            &container.status,
            &container.ports.join(", "),
            &container.name,
        ]);
    }
    table.render()
}

/// The first twelve characters, as Docker shows an id.
fn short(id: &str, no_trunc: bool) -> &str {
    match id.char_indices().nth(12) {
        Some((end, _)) if !no_trunc => &id[..end],
        _ => id,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::pick::tests::container;

    fn two() -> [ContainerView; 2] {
        let mut web = container("0123456789abcdef", "shop", "web", 1, "running");
        web.ports = vec![
            "127.0.0.1:8080->80/tcp".to_owned(),
            "127.0.0.1:8443->443/tcp".to_owned(),
        ];
        let mut db = container("fedcba9876543210", "shop", "db", 1, "exited");
        db.command = "postgres".to_owned();
        db.status = "Exited (1) 3 seconds ago".to_owned();
        [web, db]
    }

    #[test]
    fn the_table_looks_like_dockers() {
        expect![[r#"
            CONTAINER ID   IMAGE   COMMAND                  CREATED         STATUS                     PORTS                                             NAMES
            0123456789ab   web:1   "nginx -g 'daemon of…"   5 minutes ago   Up 5 minutes               127.0.0.1:8080->80/tcp, 127.0.0.1:8443->443/tcp   shop-web-1
            fedcba987654   web:1   "postgres"               5 minutes ago   Exited (1) 3 seconds ago                                                     shop-db-1
        "#]]
        .assert_eq(&render(&two(), 300, false));
    }

    #[test]
    fn nothing_is_cut_when_asked_not_to() {
        let text = render(&two(), 300, true);
        assert!(
            text.contains("0123456789abcdef") && text.contains("\"nginx -g 'daemon off;'\""),
            "{text}"
        );
    }
}
