//! What a plan costs that changes nothing, with ten, a hundred, a thousand of everything: `cargo bench -p linkspan-plan`.
//!
//! Every piece of news gives rise to a plan, so this is what each container costs all others.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use linkspan_plan::{
    Desired, Image, Job, Leases, LogSpec, Observation, Observed, Plan, Planner, Pool, Run, Settings, World,
};
use linkspan_site::Sources;

/// Of each measurement; the median counts.
const ROUNDS: usize = 21;
const SIZES: [usize; 3] = [10, 100, 1_000];

fn main() {
    println!("microseconds of a plan, and of each thing there is");
    for (what, site) in [
        ("replicas on one network", replicas as fn(usize) -> String),
        ("containers with routes and ports", containers),
        ("networks, a container on each", networks),
    ] {
        for size in SIZES {
            let micros = measure(&site(size));
            println!(
                "  {what:<34} {size:>6} {micros:>10.0} {:>8.2}",
                micros / size as f64
            );
        }
    }
}

fn replicas(count: usize) -> String {
    format!(
        "name: a\ncontainers: {{ web: {{ image: web, replicas: {count} }} }}\n\
         networks: {{ default: {{ subnet: 10.99.0.0/16 }} }}\n"
    )
}

fn containers(count: usize) -> String {
    let mut text = "name: a\nroutes:\n".to_owned();
    for index in 0..count {
        let _ = writeln!(text, "  h{index}.example.com: c{index}:80");
    }
    text.push_str("networks: { default: { subnet: 10.99.0.0/16 } }\ncontainers:\n");
    for index in 0..count {
        let port = 20_000 + index;
        let _ = writeln!(
            text,
            "  c{index}: {{ image: web, ports: ['{port}:80'], environment: {{ A: b, C: d }} }}"
        );
    }
    text
}

fn networks(count: usize) -> String {
    let mut text = "name: a\ncontainers:\n".to_owned();
    for index in 0..count {
        let _ = writeln!(text, "  c{index}: {{ image: web, networks: [n{index}] }}");
    }
    text.push_str("networks:\n");
    for index in 0..count {
        let _ = writeln!(text, "  n{index}: {{}}");
    }
    text
}

/// A host on which everything that was planned has come true.
struct Settled {
    desired: Desired,
    observed: Observed,
    leases: Arc<Leases>,
    settings: Settings,
}

fn measure(text: &str) -> f64 {
    let none = BTreeMap::new();
    let sources = Sources {
        file: Path::new("/srv/linkspan.yaml"),
        text: text.as_bytes(),
        variables: &none,
        files: &none,
    };
    let site = linkspan_site::parse(&sources)
        .unwrap_or_else(|problems| panic!("{}", problems.render(sources.file, text.as_bytes())));
    let mut host = Settled::new();
    host.desired.projects.insert(site.name.clone(), site.into());
    let mut planner = Planner::default();
    for _ in 0..5 {
        let plan = host.plan(&mut planner);
        host.come_true(plan);
    }
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let clock = Instant::now();
        let plan = host.plan(&mut planner);
        times.push(clock.elapsed());
        assert!(plan.is_empty(), "it still wants something: {:?}", plan.jobs);
    }
    times.sort();
    times[ROUNDS / 2].as_secs_f64() * 1e6
}

impl Settled {
    fn new() -> Self {
        let image = Image {
            id: "sha256:web".to_owned(),
            layers: vec!["sha256:layer".to_owned()],
            command: vec!["serve".to_owned()],
            env: vec!["LANG=C.UTF-8".to_owned()],
            ..Image::default()
        };
        Self {
            desired: Desired::default(),
            observed: Observed {
                images: [("web".to_owned(), image.into())].into(),
                ipv6: true,
                mtu: 1500,
                ..Observed::default()
            },
            leases: Arc::default(),
            settings: Settings {
                seed: 1,
                machine: 2,
                pools: vec![Pool {
                    base: "10.0.0.0/10".parse().expect("a range"),
                    size: 24,
                }],
                avoid: Vec::new(),
                prefix6: Some("fd00:1:2::/48".parse().expect("a range")),
                ids_first: 1 << 30,
                ids_ranges: 16_000,
                log: LogSpec {
                    max_size: 1,
                    max_files: 1,
                },
                hold: Duration::from_secs(30),
            },
        }
    }

    fn plan(&self, planner: &mut Planner) -> Plan {
        planner.plan(&World {
            desired: &self.desired,
            observed: &self.observed,
            leases: &self.leases,
            settings: &self.settings,
            now_ms: 1_000_000,
        })
    }

    fn come_true(&mut self, plan: Plan) {
        self.leases = plan.leases;
        let made = plan.networks.into_iter().map(|network| network.bridge);
        self.observed.bridges.extend(made);
        for record in plan.records {
            let observation = Observation {
                record: record.clone(),
                run: Run::Absent,
                busy: None,
                rests_until_ms: 0,
            };
            self.observed
                .containers
                .insert(record.spec.id.clone(), observation.into());
        }
        for job in plan.jobs {
            let Job::Start { id } = job else { continue };
            let Some(seen) = self.observed.containers.get_mut(&id) else {
                continue;
            };
            let links = seen.record.spec.attachments.iter();
            self.observed
                .links
                .extend(links.map(|link| link.host_link.clone()));
            Arc::make_mut(seen).run = Run::Running {
                pid: 1,
                since_ms: 1_000_000,
                ready: true,
                health: None,
            };
        }
    }
}
