//! A town of containers that exists only in memory: plans are carried out on it at once, and a test looks at what was
//! planned and at what came of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use linkspan_site::{Site, Sources};

use crate::*;

pub(crate) struct Town {
    pub(crate) desired: Desired,
    pub(crate) observed: Observed,
    pub(crate) leases: Arc<Leases>,
    pub(crate) settings: Settings,
    pub(crate) now_ms: u64,
    planner: RefCell<Planner>,
}

impl Town {
    pub(crate) fn new() -> Self {
        let images = ["shop:1", "shop:2", "db:1"].map(|name| {
            let image = Image {
                id: format!("sha256:{name}"),
                layers: vec![format!("sha256:layer-of-{name}")],
                command: vec!["serve".to_owned()],
                ..Image::default()
            };
            (name.to_owned(), image.into())
        });
        Self {
            desired: Desired::default(),
            observed: Observed {
                images: images.into(),
                ipv6: true,
                mtu: 1500,
                ..Observed::default()
            },
            leases: Arc::default(),
            settings: Settings {
                seed: 1,
                machine: 2,
                pools: vec![Pool {
                    base: "10.0.0.0/22".parse().unwrap(),
                    size: 24,
                }],
                avoid: Vec::new(),
                prefix6: Some("fd00:1:2::/48".parse().unwrap()),
                ids_first: 1 << 30,
                ids_ranges: 64,
                log: LogSpec {
                    max_size: 1,
                    max_files: 1,
                },
                hold: Duration::from_secs(30),
            },
            now_ms: 1_000_000,
            planner: RefCell::default(),
        }
    }

    pub(crate) fn up(&mut self, text: &str) -> &mut Self {
        let site = site(text);
        self.desired.projects.insert(site.name.clone(), site.into());
        self.desired.generation += 1;
        self
    }

    /// Whoever remembers former plans makes the same as one who doesn't.
    pub(crate) fn plan(&self) -> Plan {
        let world = World {
            desired: &self.desired,
            observed: &self.observed,
            leases: &self.leases,
            settings: &self.settings,
            now_ms: self.now_ms,
        };
        let plan = self.planner.borrow_mut().plan(&world);
        assert_eq!(plan, crate::plan(&world));
        plan
    }

    /// Makes a plan, carries it out, and tells what it was.
    pub(crate) fn step(&mut self) -> String {
        let plan = self.plan();
        let told = self.tell(&plan);
        self.leases = plan.leases;
        for record in plan.records {
            let seen = self
                .observed
                .containers
                .entry(record.spec.id.clone())
                .or_insert_with(|| {
                    Arc::new(Observation {
                        record: record.clone(),
                        run: Run::Absent,
                        busy: None,
                        rests_until_ms: 0,
                    })
                });
            Arc::make_mut(seen).record = record;
        }
        self.observed
            .bridges
            .extend(plan.networks.into_iter().map(|network| network.bridge));
        for job in plan.jobs {
            self.carry_out(&job);
        }
        for gone in plan.gone_networks {
            self.observed.bridges.remove(&gone.bridge);
        }
        self.now_ms += 1_000;
        told
    }

    pub(crate) fn carry_out(&mut self, job: &Job) {
        if let Job::Remove { id } = job {
            self.observed.containers.remove(id);
            return;
        }
        let seen = Arc::make_mut(self.observed.containers.get_mut(job.id()).unwrap());
        match job {
            Job::Start { .. } => {
                seen.run = Run::Running {
                    pid: 1,
                    since_ms: self.now_ms,
                    ready: true,
                    health: None,
                };
                let links = seen
                    .record
                    .spec
                    .attachments
                    .iter()
                    .map(|link| link.host_link.clone());
                self.observed.links.extend(links);
            }
            Job::Stop { .. } => {
                seen.run = Run::Exited;
                seen.record.exit = Some(Exit {
                    code: Some(0),
                    at_ms: self.now_ms,
                    oom: false,
                });
            }
            Job::Move { to, .. } => {
                let links = to.attachments.iter().map(|link| link.host_link.clone());
                self.observed.links.extend(links);
                seen.record.spec.put((**to).clone());
            }
            Job::Attach { .. } | Job::Remove { .. } => {}
        }
    }

    /// One line for each thing that a plan does; the run of digits in ids is replaced by the container's name.
    pub(crate) fn tell(&self, plan: &Plan) -> String {
        let mut told = String::new();
        for network in &plan.networks {
            let left: Vec<String> = network
                .retiring
                .iter()
                .map(|left| format!("; leaves {} to {:?}", left.gateway, left.members))
                .collect();
            writeln!(told, "network {} {}{}", network.id, network.v4, left.concat()).unwrap();
        }
        for job in &plan.jobs {
            let record = plan.records.iter().find(|record| record.spec.id == *job.id());
            let record = record
                .or(self.observed.containers.get(job.id()).map(|seen| &seen.record))
                .unwrap();
            let verb = match job {
                Job::Start { .. } => "start",
                Job::Attach { .. } => "attach",
                Job::Move { .. } => "move",
                Job::Stop { .. } => "stop",
                Job::Remove { .. } => "remove",
            };
            let at = |links: &[Attachment]| {
                let links = links.iter().map(|link| {
                    let left = link.retiring.iter().map(|left| format!(" (was {})", left.ip()));
                    format!("{}{}", link.v4.ip(), left.collect::<String>())
                });
                links.collect::<Vec<_>>().join(", ")
            };
            let at = match job {
                Job::Move { to, .. } => at(&to.attachments),
                _ => at(&record.spec.attachments),
            };
            writeln!(told, "{verb} {} {} at {at}", record.spec.name, record.image).unwrap();
        }
        for (id, service) in &plan.published.services {
            let at: Vec<String> = service
                .endpoints
                .iter()
                .map(|one| {
                    one.addresses
                        .first()
                        .map_or("nowhere".to_owned(), ToString::to_string)
                })
                .collect();
            let coming = if service.coming { " coming" } else { "" };
            let reason = service
                .reason
                .as_ref()
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            writeln!(told, "serve {id} from [{}]{coming}{reason}", at.join(", ")).unwrap();
        }
        for conflict in &plan.conflicts {
            writeln!(told, "conflict {}: {}", conflict.network, conflict.words()).unwrap();
        }
        for gone in &plan.gone_networks {
            let id = self
                .leases
                .networks
                .get(&gone.bridge)
                .map(|lease| lease.id.to_string());
            writeln!(told, "drop network {}", id.unwrap_or_default()).unwrap();
        }
        told
    }

    /// Steps until nothing changes any more.
    pub(crate) fn settle(&mut self) -> String {
        let mut told = String::new();
        for round in 1..=20 {
            let plan = self.plan();
            if plan.is_empty() && plan.leases == self.leases {
                return told;
            }
            writeln!(told, "--- {round}").unwrap();
            told.push_str(&self.step());
        }
        panic!("still busy after 20 plans:\n{told}");
    }

    pub(crate) fn container(&mut self, name: &str) -> &mut Observation {
        let mut containers = self.observed.containers.values_mut();
        Arc::make_mut(containers.find(|seen| seen.record.spec.name == name).unwrap())
    }

    pub(crate) fn dies(&mut self, name: &str, code: i32) {
        let now_ms = self.now_ms;
        let seen = self.container(name);
        let Run::Running { since_ms, .. } = seen.run else {
            panic!("{name} doesn't run")
        };
        seen.record = seen.record.clone().after_exit(
            Exit {
                code: Some(code),
                at_ms: now_ms,
                oom: false,
            },
            since_ms,
        );
        seen.run = Run::Exited;
    }
}

pub(crate) fn site(text: &str) -> Site {
    let none = BTreeMap::new();
    let sources = Sources {
        file: Path::new("/srv/linkspan.yaml"),
        text: text.as_bytes(),
        variables: &none,
        files: &none,
    };
    linkspan_site::parse(&sources)
        .unwrap_or_else(|problems| panic!("{}", problems.render(sources.file, text.as_bytes())))
}

pub(crate) fn slot(project: &str, container: &str, index: u32) -> Slot {
    Slot {
        project: project.parse().unwrap(),
        container: container.parse().unwrap(),
        index,
    }
}
