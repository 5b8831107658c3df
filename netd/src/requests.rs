//! What the API asks of the state's owner: changes of what is desired, made durable before they are answered.

mod networks;

use std::collections::BTreeMap;
use std::sync::Arc;

use linkspan_api::v1::{Accepted, PlanView, SiteSource, StepView};
use linkspan_plan::{
    Change, ContainerId, Desired, HeldBack, MountKind, Observation, Refusal, Run, Sign, World,
};
use linkspan_site::{MountSource, ProjectName, Site, Sources};
use linkspan_telemetry::chain;
use tokio::sync::oneshot;

use crate::events::now_ms;
use crate::reconcile::Reconciler;
use crate::store::Batch;

pub(crate) use networks::NetworkOrder;

/// Why a request is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The file has problems.
    Problems(Vec<String>),
    /// What is asked for is not a thing that can be.
    Malformed {
        /// What it was to be.
        heading: String,
        /// All that is wrong with it.
        problems: Vec<String>,
    },
    /// Something that is stands against it.
    Conflict(Vec<String>),
    /// No such thing.
    NotFound(String),
    /// The store failed.
    Failed(String),
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Rejection>>;

/// A request of the API.
#[derive(Debug)]
pub(crate) enum Request {
    /// `up`.
    Put {
        name: String,
        source: Box<SiteSource>,
        reply: Reply<Accepted>,
    },
    /// `plan`.
    Preview {
        source: Box<SiteSource>,
        reply: Reply<PlanView>,
    },
    /// `down`.
    Delete {
        name: String,
        volumes: bool,
        reply: Reply<Accepted>,
    },
    /// `stop` and `rm`, or `start` with none. Answers which containers it is about.
    Hold {
        word: String,
        held: Option<HeldBack>,
        force: bool,
        reply: Reply<Vec<ContainerId>>,
    },
    /// About networks made by hand.
    Network(NetworkOrder),
    /// `restart`. Answers which containers, each with its run before.
    Restart {
        word: String,
        reply: Reply<Vec<(ContainerId, u64)>>,
    },
}

impl Reconciler {
    pub(crate) async fn serve(&mut self, request: Request) {
        // Whoever asked may have gone away; what was done stays done.
        match request {
            Request::Put { name, source, reply } => drop(reply.send(self.put(&name, *source).await)),
            Request::Preview { source, reply } => drop(reply.send(self.preview(&source).await)),
            Request::Delete { name, volumes, reply } => drop(reply.send(self.delete(&name, volumes).await)),
            Request::Hold {
                word,
                held,
                force,
                reply,
            } => drop(reply.send(self.hold(&word, held, force).await)),
            Request::Network(order) => self.serve_network(order).await,
            Request::Restart { word, reply } => drop(reply.send(self.restart(&word).await)),
        }
    }

    async fn put(&mut self, name: &str, source: SiteSource) -> Result<Accepted, Rejection> {
        let site = parse(&source)?;
        if site.name.as_str() != name {
            return Err(Rejection::Problems(vec![format!(
                "the file is named `{}`, the request `{name}`",
                site.name
            )]));
        }
        self.admit(&site).await?;
        let mut desired = self.with(&site, self.pins(&site));
        self.wake_up(&site, &mut desired);
        // What an earlier `down --volumes` had not got round to removing is wanted again.
        let ours = format!("{}_", site.name);
        desired.doomed_volumes.retain(|volume| !volume.starts_with(&ours));
        let changed = desired != *self.desired;
        if changed {
            desired.generation += 1;
        }
        let batch = Batch::default()
            .put("desired", &desired)
            .put(&format!("source/{name}"), &source);
        if changed || self.sources.get(name).is_none_or(|known| **known != source) {
            self.commit(batch)
                .await
                .map_err(|error| Rejection::Failed(chain(&error)))?;
        }
        self.desired = desired.into();
        self.desired_unsaved = false;
        self.sources.insert(name.to_owned(), source.into());
        self.touched.insert(site.name.clone());
        if changed {
            self.emit(Some(name), "site", name, "accepted", "");
            // A port that routes newly lead to is waited for before its container counts as ready.
            self.reprobe(&site.name);
        }
        Ok(Accepted {
            generation: self.desired.generation,
            changed,
        })
    }

    /// What somebody stopped, and what failed and waits, is begun again at once by an `up`.
    fn wake_up(&self, site: &Site, desired: &mut Desired) {
        for seen in self
            .seen
            .values()
            .filter(|seen| seen.record.slot.project == site.name)
        {
            let slot = &seen.record.slot;
            let failed =
                seen.record.error.is_some() || seen.record.exit.is_some_and(|exit| exit.code != Some(0));
            let waits = !matches!(seen.run, Run::Running { .. }) && seen.busy.is_none() && failed;
            if waits || self.desired.held_back.get(slot) == Some(&HeldBack::Stopped) {
                ask_for_restart(desired, seen);
            }
        }
    }

    async fn preview(&mut self, source: &SiteSource) -> Result<PlanView, Rejection> {
        let site = parse(source)?;
        self.admit(&site).await?;
        let mut changes = linkspan_plan::diff(
            self.desired.projects.get(&site.name).map(Arc::as_ref),
            Some(&site),
        );
        let pins = self.pins(&site);
        for (name, container) in &site.containers {
            let named = changes
                .iter()
                .any(|change| change.kind == "container" && change.name == name.as_str());
            let pinned = self
                .desired
                .pins
                .get(&site.name)
                .and_then(|old| old.get(&container.image));
            if !named && pinned.is_some() && pinned != pins.get(&container.image) {
                let detail = format!("image {} was loaded anew", container.image);
                changes.push(Change {
                    sign: Sign::Change,
                    kind: "container".to_owned(),
                    name: name.to_string(),
                    detail,
                });
            }
        }
        for (slot, held) in self
            .desired
            .held_back
            .iter()
            .filter(|(slot, _)| slot.project == site.name)
        {
            let detail = if *held == HeldBack::Stopped {
                "start: it was stopped"
            } else {
                "it was removed"
            };
            changes.push(Change {
                sign: if *held == HeldBack::Stopped {
                    Sign::Change
                } else {
                    Sign::Add
                },
                kind: "container".to_owned(),
                name: slot.display_name(),
                detail: detail.to_owned(),
            });
        }
        changes.extend(linkspan_plan::forgotten(&self.desired, &site));
        let mut observed = self.observed();
        self.observe_images(&site, &mut observed);
        let world = World {
            desired: &self.with(&site, pins),
            observed: &observed,
            leases: &self.leases,
            settings: &self.plan_settings,
            now_ms: now_ms(),
        };
        linkspan_plan::tell_replaced(&mut changes, &site, &world);
        let kinds = ["network", "volume", "container"];
        changes.sort_by_key(|change| {
            kinds
                .iter()
                .position(|kind| *kind == change.kind)
                .unwrap_or(kinds.len())
        });
        Ok(PlanView {
            steps: changes.into_iter().map(step_view).collect(),
        })
    }

    /// What is desired once a site is brought up: what was done to it by hand is forgotten.
    fn with(&self, site: &Site, pins: BTreeMap<String, String>) -> Desired {
        let mut desired = Desired::clone(&self.desired);
        desired.pins.insert(site.name.clone(), pins);
        desired.held_back.retain(|slot, _| slot.project != site.name);
        desired.connections.retain(|slot, _| slot.project != site.name);
        // What is told apart by where it lies in memory stays where it is, as long as it stays the same.
        if desired
            .projects
            .get(&site.name)
            .is_none_or(|known| **known != *site)
        {
            desired.projects.insert(site.name.clone(), site.clone().into());
        }
        desired
    }

    async fn delete(&mut self, name: &str, volumes: bool) -> Result<Accepted, Rejection> {
        let unknown = || {
            Rejection::NotFound(format!(
                "no site `{name}` is up; `linkspan status` lists those that are"
            ))
        };
        let project: ProjectName = name.parse().map_err(|_| unknown())?;
        let mut desired = Desired::clone(&self.desired);
        let site = desired.projects.remove(&project).ok_or_else(unknown)?;
        desired.pins.remove(&project);
        desired.held_back.retain(|slot, _| slot.project != project);
        desired.restarts.retain(|slot, _| slot.project != project);
        desired.connections.retain(|slot, _| slot.project != project);
        desired.generation += 1;
        if volumes {
            let declared = site
                .containers
                .values()
                .flat_map(|one| &one.mounts)
                .filter_map(|mount| match &mount.source {
                    MountSource::Volume(volume) => Some(format!("{project}_{volume}")),
                    _ => None,
                });
            let held = self
                .seen
                .values()
                .filter(|seen| seen.record.slot.project == project);
            let mounted = held
                .flat_map(|seen| &seen.record.spec.mounts)
                .filter_map(|mount| match &mount.source {
                    MountKind::Volume { name } => Some(name.clone()),
                    _ => None,
                });
            desired.doomed_volumes.extend(declared.chain(mounted));
        }
        let batch = Batch::default()
            .put("desired", &desired)
            .delete(&format!("source/{name}"));
        self.commit(batch)
            .await
            .map_err(|error| Rejection::Failed(chain(&error)))?;
        self.desired = desired.into();
        self.desired_unsaved = false;
        self.sources.remove(name);
        self.touched.insert(project);
        self.emit(Some(name), "site", name, "down", "");
        Ok(Accepted {
            generation: self.desired.generation,
            changed: true,
        })
    }

    async fn hold(
        &mut self,
        word: &str,
        held: Option<HeldBack>,
        force: bool,
    ) -> Result<Vec<ContainerId>, Rejection> {
        let ids = self.named(word)?;
        let mut desired = Desired::clone(&self.desired);
        for id in &ids {
            let Some(seen) = self.seen.get(id) else { continue };
            if held == Some(HeldBack::Removed) && !force && matches!(seen.run, Run::Running { .. }) {
                return Err(Rejection::Conflict(vec![format!(
                    "container `{}` is running; stop it first, or remove it with `--force`",
                    seen.record.spec.name
                )]));
            }
            let slot = seen.record.slot.clone();
            match held {
                // It is declared, and nobody stopped it: another takes its place, and requests wait for that one.
                Some(HeldBack::Removed) if force && !desired.held_back.contains_key(&slot) => {
                    desired.discarded.insert(id.clone());
                }
                Some(held) => drop(desired.held_back.insert(slot, held)),
                None => {
                    desired.held_back.remove(&slot);
                    if !matches!(seen.run, Run::Running { .. }) || seen.busy.is_some() {
                        ask_for_restart(&mut desired, seen);
                    }
                }
            }
        }
        self.replace_desired(desired).await?;
        Ok(ids)
    }

    async fn restart(&mut self, word: &str) -> Result<Vec<(ContainerId, u64)>, Rejection> {
        let ids = self.named(word)?;
        let mut desired = Desired::clone(&self.desired);
        let mut runs = Vec::new();
        for id in ids {
            let Some(seen) = self.seen.get(&id) else { continue };
            desired.held_back.remove(&seen.record.slot);
            ask_for_restart(&mut desired, seen);
            runs.push((id, seen.record.runs));
        }
        self.replace_desired(desired).await?;
        Ok(runs)
    }

    async fn replace_desired(&mut self, mut desired: Desired) -> Result<(), Rejection> {
        if desired == *self.desired {
            return Ok(());
        }
        desired.generation += 1;
        let batch = Batch::default().put("desired", &desired);
        self.commit(batch)
            .await
            .map_err(|error| Rejection::Failed(chain(&error)))?;
        self.desired = desired.into();
        self.desired_unsaved = false;
        Ok(())
    }

    fn named(&self, word: &str) -> Result<Vec<ContainerId>, Rejection> {
        let ids: Vec<ContainerId> = linkspan_plan::named(&self.seen, word)
            .into_iter()
            .cloned()
            .collect();
        if ids.is_empty() {
            return Err(Rejection::NotFound(format!(
                "no container `{word}`; `linkspan ps -a` lists all"
            )));
        }
        Ok(ids)
    }

    /// Everything that speaks against a site, found out before anything is changed.
    async fn admit(&mut self, site: &Site) -> Result<(), Rejection> {
        if site
            .networks
            .values()
            .any(|network| network.subnet.is_some() || network.subnet6.is_some())
        {
            // A claim that is a second old may be the one that matters.
            self.look_at_host(false).await;
        }
        self.look_at_lans(Some(site)).await;
        let mut observed = self.observed();
        self.observe_images(site, &mut observed);
        let world = self.world(&observed);
        let refusals = linkspan_plan::admit(site, &world);
        let bad_file = refusals
            .iter()
            .all(|refusal| !matches!(refusal, Refusal::RouteTaken { .. } | Refusal::PortTaken { .. }));
        let mut messages: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        for (name, container) in &site.containers {
            if linkspan_plan::is_on_lan_alone(&self.desired, site, name) {
                continue;
            }
            for wanted in container.ports.iter().flat_map(linkspan_plan::held_ports) {
                if self.sockets.has_like(&wanted) {
                    continue;
                }
                // Held from now on: what is found free here can't be taken before it is needed. A pass lets go of what
                // nobody publishes after all.
                if let Err(error) = self.sockets.hold(wanted, self.shards) {
                    messages.push(format!("container `{name}`: {}", chain(&error)));
                }
            }
        }
        match (messages.is_empty(), bad_file && messages.len() == refusals.len()) {
            (true, _) => Ok(()),
            (false, true) => Err(Rejection::Problems(messages)),
            (false, false) => Err(Rejection::Conflict(messages)),
        }
    }

    fn pins(&self, site: &Site) -> BTreeMap<String, String> {
        site.containers
            .values()
            .filter_map(|container| {
                self.images
                    .resolve(&container.image)
                    .map(|image| (container.image.clone(), image.id))
            })
            .collect()
    }

    fn reprobe(&mut self, project: &ProjectName) {
        let waiting: Vec<ContainerId> = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.record.slot.project == *project)
            .filter(|(_, seen)| {
                matches!(
                    seen.run,
                    Run::Running {
                        ready: false,
                        health: None,
                        ..
                    }
                )
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            if let Some(probe) = self.probing.remove(&id) {
                probe.abort();
            }
            self.probe(&id);
        }
    }
}

/// Above what it has obeyed, also when an earlier life of its site has left the count behind.
pub(crate) fn ask_for_restart(desired: &mut Desired, seen: &Observation) {
    let asked = desired.restarts.entry(seen.record.slot.clone()).or_insert(0);
    *asked = (*asked).max(seen.record.obeyed_restart) + 1;
}

fn parse(source: &SiteSource) -> Result<Site, Rejection> {
    let sources = Sources {
        file: &source.path,
        text: source.text.as_bytes(),
        variables: &source.variables,
        files: &source.files,
    };
    linkspan_site::parse(&sources)
        .map_err(|problems| Rejection::Problems(vec![problems.render(&source.path, source.text.as_bytes())]))
}

fn step_view(change: Change) -> StepView {
    let sign = match change.sign {
        Sign::Add => '+',
        Sign::Change => '~',
        Sign::Remove => '-',
    };
    StepView {
        sign,
        kind: change.kind,
        name: change.name,
        detail: change.detail,
    }
}
