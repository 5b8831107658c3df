//! What people get to see: the view that the API answers from, and the news of a site's progress.

pub(crate) mod networks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use linkspan_api::feed::SocketKind;
use linkspan_api::v1::{ContainerView, Event, RouteView, SiteSummary};
use linkspan_plan::{Health, Job, NetworkLease, Observation, Plan, Run, is_on_lan_alone};
use linkspan_site::{Action, HostPattern, Port, ProjectName, Site, Target};
use linkspan_telemetry::chain;

use crate::events::now_ms;
use crate::publish::https_port;
use crate::reconcile::{Reconciler, View};
use crate::store::Batch;
use networks::Ground;

impl Reconciler {
    /// What to tell who follows a site: that it is as desired, or that it will not get there by itself. To be told once the
    /// view says so too: who begins to listen in between finds it there.
    pub(crate) fn announce(&mut self, plan: &Plan) -> Vec<Event> {
        let mut news = Vec::new();
        let known = self.announced.keys().chain(self.desired.projects.keys()).cloned();
        let present = self.seen.values().map(|seen| seen.record.slot.project.clone());
        let projects: BTreeSet<ProjectName> = known.chain(present).collect();
        for project in projects {
            let (state, detail) = self.state_of(&project, plan);
            let before = self.announced.get(&project).map(|event| event.action.as_str());
            // Who changed a site waits for word of that generation, though nothing may have come of the change.
            let is_news = before != Some(state) || self.touched.contains(&project);
            let event = Event {
                time_ms: now_ms(),
                generation: self.desired.generation,
                project: Some(project.to_string()),
                kind: "site".to_owned(),
                name: project.to_string(),
                action: state.to_owned(),
                detail,
            };
            if is_news && !state.is_empty() {
                self.touched.remove(&project);
                news.push(event.clone());
            }
            self.announced.insert(project, event);
        }
        news
    }

    /// `converged`, `failed`, or nothing yet, and why.
    fn state_of(&self, project: &ProjectName, plan: &Plan) -> (&'static str, String) {
        let Some(standing) = plan
            .standing
            .get(project)
            .filter(|_| self.desired.projects.contains_key(project))
        else {
            let stays = self
                .seen
                .values()
                .any(|seen| seen.record.slot.project == *project);
            let linked = self
                .leases
                .networks
                .values()
                .any(|net| net.id.0.starts_with(&format!("{project}_")));
            return if stays || linked {
                ("", String::new())
            } else {
                ("converged", "down".to_owned())
            };
        };
        if !standing.failed.is_empty() {
            let all: Vec<String> = standing
                .failed
                .iter()
                .map(|(who, why)| format!("{who}: {why}"))
                .collect();
            return ("failed", all.join("; "));
        }
        let served = self
            .proxy
            .as_ref()
            .is_some_and(|proxy| proxy.served >= self.snapshot.generation);
        (
            if standing.settled && served {
                "converged"
            } else {
                ""
            },
            String::new(),
        )
    }

    /// Replaces the view.
    pub(crate) fn show(&mut self, plan: &Plan) {
        let listening = |kind: SocketKind| -> Vec<SocketAddr> {
            let all = self
                .sockets
                .served
                .keys()
                .filter(|id| id.kind == kind && id.shard == 0);
            all.map(|id| id.address).collect()
        };
        let served = self.proxy.as_ref().map_or(0, |proxy| proxy.served);
        let settled = plan
            .standing
            .values()
            .all(|one| one.settled && one.failed.is_empty())
            && self.jobs.is_empty()
            && served >= self.snapshot.generation;
        let mut warnings: Vec<String> = self
            .troubles
            .iter()
            .map(|(about, why)| format!("{about}: {why}"))
            .collect();
        for id in self.seen.keys() {
            let told = self.containers.warnings(id).into_iter();
            warnings.extend(told.map(|warning| format!("{}: {warning}", self.name_of(id))));
        }
        let ground = self.ground(plan);
        warnings.extend(ground.warnings());
        self.view.send_replace(Arc::new(View {
            ground,
            desired: Arc::clone(&self.desired),
            sources: self.sources.clone(),
            containers: self.seen.clone(),
            published: Arc::clone(&plan.published),
            standing: plan.standing.clone(),
            proxy_pid: self.proxy.as_ref().map(|proxy| proxy.pid),
            served,
            http: listening(SocketKind::Http),
            https: listening(SocketKind::Https),
            https_port: https_port(&self.settings),
            authority: self.authority.certificate().to_owned(),
            announced: self
                .announced
                .iter()
                .map(|(name, event)| (name.to_string(), event.clone()))
                .collect(),
            settled,
            warnings,
        }));
    }
}

impl Reconciler {
    fn ground(&self, plan: &Plan) -> Ground {
        Ground {
            leases: Arc::clone(&plan.leases),
            bridges: Arc::clone(&plan.bridges),
            conflicts: plan.conflicts.clone(),
            claims: self.claims(),
            settings: Some(self.plan_settings.clone()),
        }
    }

    /// Tells of networks that somebody else's range has come to meet, once for each.
    pub(crate) fn tell_conflicts(&mut self, plan: &Plan) {
        for conflict in &plan.conflicts {
            let action = if conflict.moved_to.is_some() {
                "moving"
            } else {
                "conflict"
            };
            if conflict.moved_to.is_some() || !self.conflicts.contains(conflict) {
                self.emit(None, "network", &conflict.network.0, action, &conflict.words());
            }
        }
        self.conflicts.clone_from(&plan.conflicts);
    }

    /// Tells of networks that have arrived: nobody on them is still only at a former address.
    pub(crate) async fn tell_moved(&mut self) {
        let moving = self.leases.networks.iter();
        let arrived: Vec<String> = moving
            .filter(|(bridge, lease)| !lease.moves.is_empty() && self.have_arrived(bridge, lease))
            .map(|(bridge, _)| bridge.clone())
            .collect();
        for bridge in &arrived {
            let Some(lease) = Arc::make_mut(&mut self.leases).networks.get_mut(bridge) else {
                continue;
            };
            let (network, moves) = (lease.id.to_string(), std::mem::take(&mut lease.moves));
            for why in moves {
                self.emit(None, "network", &network, "moved", &why);
            }
        }
        if arrived.is_empty() {
            return;
        }
        // Told once, also by whoever comes after us. If that can't be noted down, twice is better than never.
        if let Err(error) = self
            .commit(Batch::default().put("leases", self.leases.as_ref()))
            .await
        {
            self.trouble("store", chain(&error));
        }
    }

    /// Is everybody on a bridge where its network is now?
    fn have_arrived(&self, bridge: &str, lease: &NetworkLease) -> bool {
        let mut links = self
            .seen
            .values()
            .flat_map(|seen| &seen.record.spec.attachments)
            .filter(|link| link.bridge == bridge);
        links.all(|link| {
            let both = link.v6.zip(lease.v6);
            lease.v4.contains(link.v4.ip()) && both.is_none_or(|(link, v6)| v6.contains(link.ip()))
        })
    }
}

impl View {
    pub(crate) fn site_summaries(&self) -> Vec<SiteSummary> {
        self.desired
            .projects
            .iter()
            .map(|(name, site)| {
                let standing = self.standing.get(name).cloned().unwrap_or_default();
                SiteSummary {
                    name: name.to_string(),
                    path: self
                        .sources
                        .get(name.as_str())
                        .map(|source| source.path.clone())
                        .unwrap_or_default(),
                    ready: standing.ready,
                    desired: standing.desired,
                    urls: site
                        .routes
                        .iter()
                        .filter_map(|route| self.url(&route.host, &route.path))
                        .collect(),
                    waiting: standing
                        .waiting
                        .iter()
                        .map(|(who, what)| format!("{who} waits for {what}"))
                        .collect(),
                }
            })
            .collect()
    }

    /// The URL of a route whose host is one name.
    fn url(&self, host: &HostPattern, path: &str) -> Option<String> {
        let HostPattern::Exact(name) = host else {
            return None;
        };
        let port = if self.https_port == 443 {
            String::new()
        } else {
            format!(":{}", self.https_port)
        };
        Some(format!("https://{name}{port}{path}"))
    }

    pub(crate) fn route_views(&self) -> Vec<RouteView> {
        self.desired
            .projects
            .values()
            .flat_map(|site| self.routes_of(site))
            .collect()
    }

    fn routes_of<'a>(&'a self, site: &'a Site) -> impl Iterator<Item = RouteView> + 'a {
        site.routes.iter().map(move |route| {
            let host = match &route.host {
                HostPattern::Exact(name) => name.clone(),
                HostPattern::Wildcard(name) => format!("*.{name}"),
                HostPattern::Default => "*".to_owned(),
            };
            let path = if route.path == "/" { "" } else { &route.path };
            let (target, state) = match &route.action {
                Action::Redirect { to, status } => (format!("{status} → {to}"), "ready".to_owned()),
                Action::Forward(targets) => self.targets(site, targets),
            };
            RouteView {
                host: format!("{host}{path}"),
                project: site.name.to_string(),
                target,
                state,
                url: self.url(&route.host, &route.path),
            }
        })
    }

    fn targets(&self, site: &Site, targets: &[Target]) -> (String, String) {
        let mut shown = Vec::new();
        let (mut ready, mut wanted, mut coming, mut reason) = (0, 0, false, None);
        for target in targets {
            match target {
                Target::Url { tls, host, port } => {
                    shown.push(format!("{}://{host}:{port}", if *tls { "https" } else { "http" }));
                    ready += 1;
                    wanted += 1;
                }
                Target::Container { name, port } => {
                    shown.push(format!("{name}:{port}"));
                    wanted += site.containers.get(name).map_or(0, |one| one.replicas as usize);
                    let id = linkspan_plan::service_id(&site.name, name);
                    if let Some(service) = self.published.services.get(&id) {
                        ready += service.endpoints.len();
                        coming |= service.coming;
                        reason = reason.or_else(|| service.reason.clone());
                    }
                }
            }
        }
        let state = match (ready, coming, reason) {
            (0, true, _) => "coming".to_owned(),
            (0, false, reason) => format!("down: {}", reason.unwrap_or_else(|| "nothing runs".to_owned())),
            (ready, ..) => format!("ready {ready}/{wanted}"),
        };
        (shown.join(", "), state)
    }

    pub(crate) fn container_views(&self, all: bool) -> Vec<ContainerView> {
        let mut views: Vec<ContainerView> = self
            .containers
            .values()
            .filter(|seen| all || matches!(seen.run, Run::Running { .. }))
            .map(|seen| self.container_view(seen))
            .collect();
        views.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
        views
    }

    pub(crate) fn container_view(&self, seen: &Observation) -> ContainerView {
        let record = &seen.record;
        let (state, status) = state_and_status(seen);
        let mut networks: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for link in &record.spec.attachments {
            let addresses = networks.entry(link.network.0.clone()).or_default();
            addresses.push(link.v4.ip().to_string());
            addresses.extend(link.v6.map(|v6| v6.ip().to_string()));
        }
        let (pid, health) = match seen.run {
            Run::Running { pid, health, .. } => (Some(pid), health),
            Run::Absent | Run::Exited => (None, None),
        };
        ContainerView {
            id: record.spec.id.to_string(),
            name: record.spec.name.clone(),
            project: Some(record.slot.project.to_string()),
            service: Some(record.slot.container.to_string()),
            image: record.image.clone(),
            command: record.spec.args.join(" "),
            state: state.to_owned(),
            status,
            health: health.map(|health| health_word(health).to_owned()),
            created: i64::try_from(record.created_ms / 1_000).unwrap_or(i64::MAX),
            pid,
            exit_code: record.exit.and_then(|exit| exit.code),
            restarts: record.restarts,
            ports: self.ports_of(seen),
            networks,
        }
    }

    fn ports_of(&self, seen: &Observation) -> Vec<String> {
        let slot = &seen.record.slot;
        let declared = self
            .desired
            .projects
            .get(&slot.project)
            .and_then(|site| site.containers.get(&slot.container));
        let site = self.desired.projects.get(&slot.project);
        if site.is_some_and(|site| is_on_lan_alone(&self.desired, site, &slot.container)) {
            // Nothing of the host's leads there.
            let all = declared.into_iter().flat_map(|one| &one.ports);
            let inside = |port: &Port| match port.count {
                1 => port.container_port.to_string(),
                count => format!(
                    "{}-{}",
                    port.container_port,
                    port.container_port.saturating_add(count - 1)
                ),
            };
            return all
                .map(|port| format!("{}/{} (on the LAN itself)", inside(port), port.protocol.name()))
                .collect();
        }
        let mut ports = Vec::new();
        for port in declared.into_iter().flat_map(|one| &one.ports) {
            let word = port.protocol.name();
            if port.count > 1 {
                let outside = SocketAddr::new(port.host_ip, port.host_port);
                let (last, inside) = (port.last_host_port(), port.container_port);
                let end = inside.saturating_add(port.count - 1);
                ports.push(format!("{outside}-{last}->{inside}-{end}/{word}"));
                continue;
            }
            let host = self.ground.leases.host_port(slot, port);
            ports.push(format!(
                "{}->{}/{word}",
                SocketAddr::new(port.host_ip, host),
                port.container_port
            ));
        }
        ports
    }
}

fn health_word(health: Health) -> &'static str {
    match health {
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}

/// As Docker words it.
fn state_and_status(seen: &Observation) -> (&'static str, String) {
    let record = &seen.record;
    match (&seen.run, &seen.busy) {
        (Run::Running { since_ms, health, .. }, busy) => {
            let up = format!("Up {}", ago(now_ms().saturating_sub(*since_ms)));
            let status =
                health.map_or_else(|| up.clone(), |health| format!("{up} ({})", health_word(health)));
            let stopping = matches!(busy, Some(Job::Stop { .. } | Job::Remove { .. }));
            (if stopping { "stopping" } else { "running" }, status)
        }
        (_, Some(Job::Start { .. })) => ("starting", "Starting".to_owned()),
        _ if record.error.is_some() => (
            "created",
            format!("Created ({})", record.error.clone().unwrap_or_default()),
        ),
        _ => match record.exit {
            Some(exit) => {
                let code = exit
                    .code
                    .map_or_else(|| "unknown".to_owned(), |code| code.to_string());
                let since = ago(now_ms().saturating_sub(exit.at_ms));
                let oom = if exit.oom { ", out of memory" } else { "" };
                ("exited", format!("Exited ({code}{oom}) {since} ago"))
            }
            None => ("created", "Created".to_owned()),
        },
    }
}

/// `5 minutes`, as Docker rounds it.
fn ago(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (number, unit) = match seconds {
        0 => return "Less than a second".to_owned(),
        1..=59 => (seconds, "second"),
        60..=3_599 => (seconds / 60, "minute"),
        3_600..=172_799 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::ago;

    #[test]
    fn durations_are_worded_as_docker_words_them() {
        let all: Vec<String> = [400, 1_000, 59_000, 60_000, 7_200_000, 400_000_000]
            .into_iter()
            .map(ago)
            .collect();
        assert_eq!(
            all,
            [
                "Less than a second",
                "1 second",
                "59 seconds",
                "1 minute",
                "2 hours",
                "4 days"
            ]
        );
    }
}
