//! Other proxies, as near to their defaults as they come.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One of them, running.
pub(crate) struct Peer {
    pub(crate) http: SocketAddr,
    pub(crate) http2: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Peer {
    pub(crate) fn start(name: &str, program: &str, origin: u16) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let http = free();
        // Three of them tell the two apart on one port.
        let http2 = if matches!(name, "nginx" | "haproxy") {
            free()
        } else {
            http
        };
        let ports = Ports { http, http2, origin };
        let at = folder.path();
        let mut command = Command::new(program);
        for (file, text) in files(name, &ports, at)? {
            std::fs::write(at.join(file), text).map_err(|error| error.to_string())?;
        }
        let args: &[&str] = match name {
            "nginx" => &["-p", ".", "-e", "error.log", "-c", "nginx.conf"],
            "haproxy" => &["-db", "-f", "haproxy.cfg"],
            "caddy" => &["run", "--config", "Caddyfile"],
            "traefik" => &["--configFile=traefik.yaml"],
            _ => &["--concurrency", "1", "--log-level", "error", "-c", "envoy.yaml"],
        };
        let child = command
            .args(args)
            .current_dir(at)
            .env("HOME", at)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start `{program}`: {error}"))?;
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut peer = Self {
            http: address(http),
            http2: address(http2),
            child,
            _folder: folder,
        };
        let begun = Instant::now();
        while TcpStream::connect(peer.http).is_err() || TcpStream::connect(peer.http2).is_err() {
            if let Ok(Some(status)) = peer.child.try_wait() {
                return Err(format!("`{program}` ended: {status}"));
            }
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(format!("`{program}` does not listen"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // Traefik listens before it has read its routes.
        std::thread::sleep(Duration::from_millis(500));
        Ok(peer)
    }
}

struct Ports {
    http: u16,
    http2: u16,
    origin: u16,
}

/// A port that nobody has at the moment.
fn free() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").port()
}

fn files(name: &str, ports: &Ports, at: &Path) -> Result<Vec<(&'static str, String)>, String> {
    let Ports { http, http2, origin } = ports;
    let at = at.display();
    Ok(match name {
        "nginx" => vec![(
            "nginx.conf",
            format!(
                "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\nhttp {{\n access_log off;\n\
                 client_body_temp_path {at}/a;\n proxy_temp_path {at}/b;\n fastcgi_temp_path {at}/c;\n\
                 uwsgi_temp_path {at}/d;\n scgi_temp_path {at}/e;\n\
                 upstream origin {{ server 127.0.0.1:{origin}; keepalive 16; }}\n\
                 server {{\n listen 127.0.0.1:{http};\n listen 127.0.0.1:{http2} http2;\n location / {{\n\
                 proxy_pass http://origin;\n proxy_http_version 1.1;\n proxy_set_header Connection \"\";\n\
                 proxy_set_header Host $host;\n\
                 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n }}\n }}\n}}\n"
            ),
        )],
        "haproxy" => vec![(
            "haproxy.cfg",
            format!(
                "global\n  nbthread 1\ndefaults\n  mode http\n  timeout client 30s\n  timeout server 30s\n\
                 \x20 timeout connect 5s\n  option forwardfor\nfrontend f\n  bind 127.0.0.1:{http}\n\
                 \x20 bind 127.0.0.1:{http2} proto h2\n  default_backend b\nbackend b\n  server s 127.0.0.1:{origin}\n"
            ),
        )],
        "caddy" => vec![(
            "Caddyfile",
            format!(
                "{{\n admin off\n auto_https off\n persist_config off\n servers {{\n protocols h1 h2c\n }}\n}}\n\
                 http://:{http} {{\n bind 127.0.0.1\n reverse_proxy 127.0.0.1:{origin}\n}}\n"
            ),
        )],
        "traefik" => vec![
            (
                "traefik.yaml",
                format!(
                    "global: {{ checkNewVersion: false, sendAnonymousUsage: false }}\n\
                     entryPoints: {{ web: {{ address: '127.0.0.1:{http}' }} }}\n\
                     providers: {{ file: {{ filename: '{at}/routes.yaml' }} }}\n"
                ),
            ),
            (
                "routes.yaml",
                format!(
                    "http:\n  routers: {{ all: {{ rule: 'PathPrefix(`/`)', service: origin, entryPoints: [web] }} }}\n\
                     \x20 services: {{ origin: {{ loadBalancer: {{ servers: [{{ url: 'http://127.0.0.1:{origin}' }}] }} }} }}\n"
                ),
            ),
        ],
        "envoy" => vec![("envoy.yaml", envoy(ports))],
        other => return Err(format!("no peer is called `{other}`")),
    })
}

fn envoy(ports: &Ports) -> String {
    let Ports { http, origin, .. } = ports;
    format!(
        "static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {http} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          use_remote_address: true
          route_config:
            virtual_hosts:
            - {{ name: all, domains: ['*'], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: origin }} }}] }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: origin
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {origin} }} }} }}
"
    )
}
