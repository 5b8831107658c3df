//! `linkspan images`.

use linkspan_api::client::Client;
use linkspan_api::v1::ImageView;

use crate::args::Format;
use crate::quantity;
use crate::table::Table;
use crate::terminal::{print, print_json};

/// List images
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  linkspan images")]
pub(crate) struct Images {
    /// Only ids
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Images {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let images = client.images().await?;
        if self.quiet {
            let ids: Vec<_> = images
                .iter()
                .map(|image| format!("{}\n", short(&image.id)))
                .collect();
            return print(&ids.concat());
        }
        match self.format {
            Format::Json => print_json(&images),
            Format::Table => print(&render(&images, quantity::now())),
        }
    }
}

fn render(images: &[ImageView], now: i64) -> String {
    let mut table = Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    for image in images {
        let created = quantity::ago(image.created, now);
        let size = quantity::size(image.size);
        let mut row =
            |repository: &str, tag: &str| table.row([repository, tag, short(&image.id), &created, &size]);
        if image.names.is_empty() {
            row("<none>", "<none>");
        }
        for name in &image.names {
            let (repository, tag) = split(name);
            row(repository, tag);
        }
    }
    table.render()
}

/// Twelve digits without `sha256:`, as Docker shows an id.
pub(crate) fn short(id: &str) -> &str {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits)
}

/// `registry:5000/name:tag` at the colon of the tag.
fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "<none>"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn each_name_of_an_image_has_a_line() {
        let image = |names: &[&str], created| ImageView {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            digest: "sha256:beef".to_owned(),
            id: "sha256:0123456789abcdef".to_owned(),
            size: 7_840_000,
            created,
        };
        let images = [
            image(&["shop:1.4", "localhost:5000/acme/shop:latest"], 1_000),
            image(&[], 0),
        ];
        expect![[r#"
            REPOSITORY                 TAG      IMAGE ID       CREATED       SIZE
            shop                       1.4      0123456789ab   2 hours ago   7.84MB
            localhost:5000/acme/shop   latest   0123456789ab   2 hours ago   7.84MB
            <none>                     <none>   0123456789ab   2 hours ago   7.84MB
        "#]]
        .assert_eq(&render(&images, 8_200));
    }

    #[test]
    fn the_port_of_a_registry_is_no_tag() {
        assert_eq!(split("localhost:5000/web"), ("localhost:5000/web", "<none>"));
    }
}
