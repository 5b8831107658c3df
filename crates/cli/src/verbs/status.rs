//! `linkspan status`.

use linkspan_api::client::Client;
use linkspan_api::v1;

use crate::args::Format;
use crate::terminal::{Colour, Paint, clean, print, print_json};

/// Show what the daemon is doing, and what needs attention
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  linkspan status")]
pub(crate) struct Status {
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Status {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let status = client.status().await?;
        match self.format {
            Format::Json => print_json(&status),
            Format::Table => print(&render(&status, Paint::for_stream(&std::io::stdout()))),
        }
    }
}

fn render(status: &v1::Status, paint: Paint) -> String {
    let v1::Status {
        version,
        generation,
        converged,
        proxy,
        sites,
        warnings,
    } = status;
    let state = if *converged {
        paint.paint(Colour::Green, "as desired")
    } else {
        paint.paint(Colour::Yellow, "under way")
    };
    let mut out = format!(
        "daemon  {}, pid {}, Linux {}\nstate   {state}, generation {generation}\n",
        clean(&version.version),
        version.pid,
        clean(&version.kernel)
    );
    let addresses = |list: &[std::net::SocketAddr]| {
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        if list.is_empty() {
            "nowhere".to_owned()
        } else {
            list.join(" ")
        }
    };
    match proxy.pid {
        Some(pid) => out.push_str(&format!(
            "proxy   pid {pid}, serves generation {}\n        http on {}\n        https on {}\n",
            proxy.generation,
            addresses(&proxy.http),
            addresses(&proxy.https)
        )),
        None => out.push_str(&format!("proxy   {}\n", paint.paint(Colour::Red, "does not run"))),
    }
    if sites.is_empty() {
        out.push_str("sites   none; bring one up with `linkspan up`\n");
    }
    for (number, site) in sites.iter().enumerate() {
        let head = if number == 0 { "sites" } else { "" };
        let ready = format!("{}/{} ready", site.ready, site.desired);
        let colour = if site.ready == site.desired {
            Colour::Green
        } else {
            Colour::Yellow
        };
        let path = site.path.to_string_lossy();
        out.push_str(&format!(
            "{head:<8}{}  {}  {}\n",
            clean(&site.name),
            paint.paint(colour, &ready),
            paint.paint(Colour::Dim, &clean(&path))
        ));
        for url in &site.urls {
            out.push_str(&format!("          {}\n", clean(url)));
        }
        for waiting in &site.waiting {
            out.push_str(&format!("          {}\n", clean(waiting)));
        }
    }
    for warning in warnings {
        out.push_str(&format!(
            "{} {}\n",
            paint.paint(Colour::Yellow, "warning"),
            clean(warning)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn status() -> v1::Status {
        v1::Status {
            version: v1::Version {
                version: "0.1.0".to_owned(),
                kernel: "6.18.1".to_owned(),
                pid: 77,
            },
            generation: 5,
            converged: false,
            proxy: v1::ProxyView {
                pid: Some(78),
                generation: 4,
                http: vec!["0.0.0.0:80".parse().unwrap(), "[::]:80".parse().unwrap()],
                https: Vec::new(),
            },
            sites: vec![v1::SiteSummary {
                name: "shop".to_owned(),
                path: "/srv/shop/linkspan.yaml".into(),
                ready: 1,
                desired: 2,
                urls: vec!["https://shop.example.com/".to_owned()],
                waiting: vec!["shop-probe-1 waits for `shop-web-1`, whose network it shares".to_owned()],
            }],
            warnings: vec!["container `shop-db-1` exited 4 times in a minute".to_owned()],
        }
    }

    #[test]
    fn the_state_of_everything_fits_on_a_page() {
        expect![[r#"
            daemon  0.1.0, pid 77, Linux 6.18.1
            state   under way, generation 5
            proxy   pid 78, serves generation 4
                    http on 0.0.0.0:80 [::]:80
                    https on nowhere
            sites   shop  1/2 ready  /srv/shop/linkspan.yaml
                      https://shop.example.com/
                      shop-probe-1 waits for `shop-web-1`, whose network it shares
            warning container `shop-db-1` exited 4 times in a minute
        "#]]
        .assert_eq(&render(&status(), Paint::PLAIN));
    }

    #[test]
    fn without_a_proxy_and_sites_it_says_what_to_do() {
        let mut status = status();
        status.proxy.pid = None;
        status.sites.clear();
        let text = render(&status, Paint::PLAIN);
        assert!(text.contains("proxy   does not run\n"), "{text}");
        assert!(
            text.contains("sites   none; bring one up with `linkspan up`\n"),
            "{text}"
        );
    }
}
