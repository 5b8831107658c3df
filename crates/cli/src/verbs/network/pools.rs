//! `linkspan network pools`.

use linkspan_api::client::Client;
use linkspan_api::v1::PoolView;

use crate::args::Format;
use crate::table::Table;
use crate::terminal::{print, print_json};

/// List the pools that ranges are chosen from, and who holds what of them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  linkspan network pools")]
pub(crate) struct Pools {
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Pools {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let pools = client.pools().await?;
        match self.format {
            Format::Json => print_json(&pools),
            Format::Table => print(&render(&pools)),
        }
    }
}

fn render(pools: &[PoolView]) -> String {
    let mut table = Table::new(&["POOL", "BLOCK", "BLOCKS", "FREE", "NEXT"]);
    for pool in pools {
        table.row([
            &pool.base,
            &format!("/{}", pool.size),
            &pool.blocks.to_string(),
            &pool.free.to_string(),
            pool.next.as_deref().unwrap_or("none left"),
        ]);
    }
    let mut out = table.render();
    if pools.iter().all(|pool| pool.held.is_empty()) {
        return out;
    }
    let mut held = Table::new(&["POOL", "HELD", "BLOCKS", "BY"]);
    for pool in pools {
        for holder in &pool.held {
            held.row([
                &pool.base,
                &holder.range,
                &holder.blocks.to_string(),
                &holder.holder,
            ]);
        }
    }
    out.push('\n');
    out.push_str(&held.render());
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use linkspan_api::v1::PoolHolder;

    use super::*;

    fn pool(base: &str, free: u64, next: Option<&str>, held: &[(&str, &str, u64)]) -> PoolView {
        PoolView {
            base: base.to_owned(),
            size: 24,
            blocks: 16,
            free,
            next: next.map(str::to_owned),
            held: held
                .iter()
                .map(|(range, holder, blocks)| PoolHolder {
                    range: (*range).to_owned(),
                    holder: (*holder).to_owned(),
                    ours: holder.starts_with("network"),
                    blocks: *blocks,
                })
                .collect(),
        }
    }

    #[test]
    fn who_holds_what_stands_below_the_pools() {
        let pools = [
            pool(
                "10.192.0.0/20",
                13,
                Some("10.192.5.0/24"),
                &[
                    ("10.192.4.0/24", "network `shop_default`", 1),
                    ("10.192.8.0/23", "route via `tun0`", 2),
                ],
            ),
            pool(
                "10.8.0.0/20",
                0,
                None,
                &[("10.0.0.0/8", "avoided by the settings", 16)],
            ),
        ];
        expect![[r#"
            POOL            BLOCK   BLOCKS   FREE   NEXT
            10.192.0.0/20   /24     16       13     10.192.5.0/24
            10.8.0.0/20     /24     16       0      none left

            POOL            HELD            BLOCKS   BY
            10.192.0.0/20   10.192.4.0/24   1        network `shop_default`
            10.192.0.0/20   10.192.8.0/23   2        route via `tun0`
            10.8.0.0/20     10.0.0.0/8      16       avoided by the settings
        "#]]
        .assert_eq(&render(&pools));
        let free = [pool("10.8.0.0/20", 16, Some("10.8.0.0/24"), &[])];
        assert!(!render(&free).contains("HELD"));
    }
}
