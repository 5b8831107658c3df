//! Compose's short and long forms of a key mean the same, and what is left out has its default.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use linkspan_site::{Container, ExtraHost, MountSource, Restart, Site, Sources, parse};

fn site(text: &str) -> Site {
    let file = Path::new("/srv/shop/linkspan.yaml");
    let variables = BTreeMap::from([("OUTSIDE".to_owned(), "o".to_owned())]);
    let files = BTreeMap::from([
        ("a.env".to_owned(), "A=a\nB=a".to_owned()),
        ("b.env".to_owned(), "B=b\nC=$OUTSIDE$B".to_owned()),
    ]);
    parse(&Sources {
        file,
        text: text.as_bytes(),
        variables: &variables,
        files: &files,
    })
    .unwrap_or_else(|problems| panic!("{}", problems.render(file, text.as_bytes())))
}

/// A container with these lines, in a file with a network, a volume and another container.
fn web(lines: &str) -> Container {
    let mut text = "networks: { n: { subnet: 10.9.0.0/24 }, m: {} }\nvolumes: { v: {} }\ncontainers:\n  db: { image: db, restart: 'no' }\n  web:\n    image: nginx\n".to_owned();
    for line in lines.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    site(&text).containers["web"].clone()
}

#[test]
fn forms_of_one_meaning() {
    for (one, other) in [
        ("command: a 'b c'", "command: [a, b c]"),
        ("command: \"\"", "command: []"),
        ("command:", ""),
        ("entrypoint: /run me", "entrypoint:\n- /run\n- me"),
        (
            "environment: { A: 1, B: , E: '', OUTSIDE: }",
            "environment: [A=1, B, E=, OUTSIDE]",
        ),
        ("env_file: a.env", "env_file: [{ path: a.env, required: true }]"),
        (
            "env_file: [a.env, { path: none.env, required: false }]",
            "env_file: [a.env]",
        ),
        (
            "ports: ['8080:80/udp']",
            "ports: [{ target: 80, published: '8080', protocol: udp }]",
        ),
        ("ports: ['80']", "ports: [{ target: 80 }]"),
        ("ports: [80]", "ports: ['0:80']"),
        (
            "ports: ['[::1]:1-2:3-4']",
            "ports: [{ host_ip: '::1', published: 1-2, target: 3-4 }]",
        ),
        ("ports: ['1-2:3-4']", "ports: ['127.0.0.1:1-2:3-4/tcp']"),
        (
            "mac_address: 02-00-00-00-00-0A",
            "networks: { default: { mac_address: '02:00:00:00:00:0a' } }",
        ),
        (
            "volumes: ['v:/v:ro']",
            "volumes: [{ type: volume, source: v, target: /v/, read_only: true }]",
        ),
        (
            "volumes: ['./a:/b']",
            "volumes: [{ type: bind, source: a, target: /b }]",
        ),
        ("volumes: ['../a/./c:/b']", "volumes: ['/srv/a/c:/b:rw']"),
        (
            "tmpfs: '/run:size=1m,mode=700'",
            "volumes: [{ type: tmpfs, target: /run, tmpfs: { size: 1048576, mode: 0o700 } }]",
        ),
        ("networks: [n, m]", "networks: { m: , n: {} }"),
        ("", "networks: [default]"),
        (
            "depends_on: [db]",
            "depends_on: { db: { condition: service_started } }",
        ),
        ("restart: no", "restart: false"),
        ("restart: on-failure", "restart: on-failure:0"),
        ("labels: { a: 1, b: }", "labels: [a=1, b]"),
        (
            "healthcheck: { test: a b }",
            "healthcheck: { test: [CMD-SHELL, a b] }",
        ),
        ("healthcheck: { disable: true }", "healthcheck: { test: [NONE] }"),
        (
            "healthcheck: { test: [CMD, a], interval: 90s }",
            "healthcheck: { test: [CMD, a], interval: 1m30s, retries: '3' }",
        ),
        ("cap_add: [cap_net_admin, NET_ADMIN]", "cap_add: [NET_ADMIN]"),
        ("mem_limit: 512m", "mem_limit: 536870912"),
        ("cpus: 0.50", "cpus: '.5'"),
        ("pids_limit: -1", ""),
        (
            "ulimits: { nofile: 5 }",
            "ulimits: { nofile: { soft: 5, hard: 5 } }",
        ),
        (
            "sysctls: { net.core.somaxconn: 1 }",
            "sysctls: [net.core.somaxconn=1]",
        ),
        ("dns: 9.9.9.9", "dns: [9.9.9.9]"),
        (
            "extra_hosts: { a: 1.2.3.4, b: ['::1', host-gateway] }",
            "extra_hosts: ['a:1.2.3.4', 'b=[::1]', 'b=host-gateway']",
        ),
        ("stop_signal: term", "stop_signal: SIGTERM"),
        ("stop_grace_period: 10s", ""),
        (
            "devices: ['/dev/fuse']",
            "devices: [{ source: /dev/fuse, target: /dev/fuse, permissions: rwm }]",
        ),
        ("devices: ['/dev/fuse:rw']", "devices: ['/dev/fuse:/dev/fuse:rw']"),
        (
            "security_opt: ['seccomp:unconfined', no-new-privileges]",
            "security_opt: ['no-new-privileges=true', seccomp=unconfined]",
        ),
        ("init: yes", "init: true"),
        ("replicas: '2'", "replicas: ${NO:-2}"),
        ("<<: { image: other, init: true }", "init: true"),
        (
            "<<: [{ init: true }, { init: false, cpus: 1 }]",
            "init: true\ncpus: 1",
        ),
    ] {
        assert_eq!(web(one), web(other), "{one}\n{other}");
    }
}

#[test]
fn env_files_lie_below_the_environment_and_later_ones_above_earlier() {
    let web = web("env_file: [a.env, b.env]\nenvironment: [D=d, A]");
    let found: Vec<_> = web
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    // As in Compose, `A` without a value that is set nowhere outside is not set inside.
    assert_eq!(found, ["B=b", "C=ob", "D=d"]);
}

#[test]
fn what_differs_from_compose_on_purpose() {
    let web = web("ports: ['8080:80']");
    assert_eq!(web.restart, Restart::UnlessStopped);
    assert!(web.ports[0].host_ip.is_loopback());
    assert_eq!(web.stop_grace, Duration::from_secs(10));
}

#[test]
fn an_anchor_is_one_thing_in_several_places() {
    let site = site(
        "x-base: &base { image: nginx, environment: &env { A: 1 } }\ncontainers:\n  a: *base\n  b: { <<: *base, image: caddy, environment: { <<: *env, B: 2 } }\n",
    );
    let (a, b) = (&site.containers["a"], &site.containers["b"]);
    assert_eq!((a.image.as_str(), b.image.as_str()), ("nginx", "caddy"));
    assert_eq!(a.environment.len(), 1);
    assert_eq!(b.environment.len(), 2);
}

#[test]
fn only_what_is_used_is_in_the_site() {
    let site = site(
        "networks: { a: , b: }\nvolumes: { c: , d: }\ncontainers: { web: { image: x, networks: [a], volumes: ['c:/c'] } }\n",
    );
    assert_eq!(
        site.networks.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
        ["a"]
    );
    assert_eq!(
        site.volumes.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
        ["c"]
    );
    assert!(
        matches!(&site.containers["web"].mounts[0].source, MountSource::Volume(name) if name.as_str() == "c")
    );
    assert!(site.routes.is_empty());
}

#[test]
fn a_bind_knows_whether_its_path_may_be_the_hosts_own() {
    let allowed = |fields: &str| -> Vec<bool> {
        let mounts = web(fields).mounts;
        mounts.iter().map(|mount| mount.allow_host_path).collect()
    };
    assert_eq!(
        allowed(
            "volumes: ['./a:/a', { type: bind, source: /etc, target: /b, allow_host_path: true }, { type: tmpfs, target: /c, allow_host_path: true }]"
        ),
        [false, true, false]
    );
    assert_eq!(
        allowed(
            "allow_host_path: true\nvolumes: ['./a:/a', { type: bind, source: ./b, target: /b }]\ntmpfs: /c"
        ),
        [true, true, false]
    );
}

#[test]
fn a_site_may_be_routes_alone() {
    let site = site("routes: { old.example.com: 'https://[2001:db8::1]:8443/' }\n");
    assert!(site.containers.is_empty() && site.networks.is_empty());
    assert_eq!(site.name.as_str(), "shop");
}

#[test]
fn hosts_of_a_container_may_repeat() {
    let web = web("extra_hosts: ['a:1.2.3.4', 'a:::1']");
    assert_eq!(web.extra_hosts.len(), 2);
    assert_eq!(web.extra_hosts[1].1, ExtraHost::Address("::1".parse().unwrap()));
}
