//! The daemon's settings: `/etc/linkspan/config.yaml`. Every key has a default; no file is needed.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnetwork::{IpNetwork, Ipv4Network};
use linkspan_api::feed::Limits;
use linkspan_plan::{LogSpec, Pool};
use serde::{Deserialize, Deserializer};

/// Where the file is looked for when nobody names another.
pub(crate) const DEFAULT_PATH: &str = "/etc/linkspan/config.yaml";

/// The settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A named file that can't be read.
    #[error("settings `{path}` can't be read")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not what the settings may hold; the text has line and column.
    #[error("settings `{path}`: {message}")]
    Malformed {
        /// Which.
        path: String,
        /// With line and column.
        message: String,
    },
    /// A pool that can't be split as asked.
    #[error(
        "settings `{path}`: pool {base} can't be split into /{size} networks; `size` must be from the pool's prefix to 29"
    )]
    PoolSize {
        /// Which file.
        path: String,
        /// The pool.
        base: Ipv4Network,
        /// As written.
        size: u8,
    },
    /// A pool of addresses that no network can have.
    #[error(
        "settings `{path}`: pool {base} is no range for networks; write a private one by its first address, as 10.192.0.0/12"
    )]
    PoolBase {
        /// Which file.
        path: String,
        /// The pool.
        base: Ipv4Network,
    },
    /// Pools that share addresses.
    #[error("settings `{path}`: pools {one} and {other} overlap; keep one of them")]
    PoolOverlap {
        /// Which file.
        path: String,
        /// A pool.
        one: Ipv4Network,
        /// Another.
        other: Ipv4Network,
    },
    /// A limit is out of its range.
    #[error("`{path}`: `limits`: `{key}: {value}` is not between 1 and {most}")]
    Limit {
        /// Which file.
        path: String,
        /// The key.
        key: &'static str,
        /// What it says.
        value: u32,
        /// What it may say.
        most: u32,
    },
}

/// As written, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where plain HTTP is accepted.
    pub http: Vec<SocketAddr>,
    /// Where HTTPS is accepted.
    pub https: Vec<SocketAddr>,
    /// The port in redirects and URLs, when something before us maps another to ours.
    pub https_port: Option<u16>,
    /// Address pools of networks.
    pub pools: Vec<PoolSetting>,
    /// Ranges that networks must not touch.
    pub avoid: Vec<IpNetwork>,
    /// Tell other firewalls (Docker's, ufw, firewalld) that our bridges' traffic is ours to judge: one accept each, where
    /// they have a place for it.
    pub firewall_coexist: bool,
    /// Name servers instead of those in `/etc/resolv.conf`.
    pub name_servers: Vec<IpAddr>,
    /// First host id for containers.
    pub ids_first: u32,
    /// Ranges of 65,536 host ids.
    pub ids_ranges: u32,
    /// Another OCI runtime, for example `/usr/bin/runc`.
    pub runtime: Option<PathBuf>,
    /// User id of the proxy.
    pub proxy_user: u32,
    /// Group id of the proxy.
    pub proxy_group: u32,
    /// Worker threads of the proxy; one for each core by default.
    pub proxy_workers: Option<usize>,
    /// Group that may use the control socket.
    pub group: String,
    /// Limits of the proxy.
    pub limits: Limits,
    /// Container logs.
    pub log: LogSetting,
    /// A stop waits at most so long for requests under way, in seconds.
    #[serde(deserialize_with = "seconds")]
    pub drain: Duration,
}

/// A pool of networks.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolSetting {
    /// The range.
    pub base: Ipv4Network,
    /// Prefix length of each network in it.
    #[serde(default = "default_size")]
    pub size: u8,
}

/// Rotation of container logs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSetting {
    /// Bytes of one file.
    pub max_size: u64,
    /// Files kept.
    pub max_files: u32,
}

impl Default for LogSetting {
    fn default() -> Self {
        Self {
            max_size: 10 << 20,
            max_files: 3,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let any = |port| {
            vec![
                SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), port),
                SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), port),
            ]
        };
        Self {
            http: any(80),
            https: any(443),
            https_port: None,
            pools: ["10.192.0.0/12", "172.24.0.0/14"]
                .into_iter()
                .filter_map(|text| text.parse().ok())
                .map(|base| PoolSetting {
                    base,
                    size: default_size(),
                })
                .collect(),
            avoid: Vec::new(),
            firewall_coexist: true,
            name_servers: Vec::new(),
            ids_first: 1 << 30,
            ids_ranges: 8_192,
            runtime: None,
            // In the range that Debian and systemd leave to nobody else (60,578 to 61,183).
            proxy_user: 60_880,
            proxy_group: 60_880,
            proxy_workers: None,
            group: "linkspan".to_owned(),
            limits: Limits::default(),
            log: LogSetting::default(),
            drain: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// Reads the named file, or the default one if it exists.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self, SettingsError> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        let shown = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(SettingsError::Read { path: shown, source }),
        };
        if text
            .lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
        {
            return Ok(Self::default());
        }
        let settings: Self = serde_saphyr::from_str(&text).map_err(|error| SettingsError::Malformed {
            path: shown.clone(),
            message: error.to_string(),
        })?;
        settings.check(&shown)?;
        Ok(settings)
    }

    fn check(&self, path: &str) -> Result<(), SettingsError> {
        self.check_limits(path)?;
        for (index, pool) in self.pools.iter().enumerate() {
            let first = pool.base.network();
            if pool.base.ip() != first
                || first.is_loopback()
                || first.is_link_local()
                || first.is_multicast()
                || first.is_unspecified()
            {
                return Err(SettingsError::PoolBase {
                    path: path.to_owned(),
                    base: pool.base,
                });
            }
            if pool.size < pool.base.prefix() || pool.size > 29 {
                return Err(SettingsError::PoolSize {
                    path: path.to_owned(),
                    base: pool.base,
                    size: pool.size,
                });
            }
            if let Some(other) = self.pools[..index]
                .iter()
                .find(|other| other.base.overlaps(pool.base))
            {
                return Err(SettingsError::PoolOverlap {
                    path: path.to_owned(),
                    one: other.base,
                    other: pool.base,
                });
            }
        }
        Ok(())
    }

    /// What is compared with these is never 0, so that nothing would be served.
    fn check_limits(&self, path: &str) -> Result<(), SettingsError> {
        let limits = &self.limits;
        let most = u32::MAX;
        for (key, value, most) in [
            ("connections", limits.connections, most),
            ("connections_per_address", limits.connections_per_address, most),
            ("requests_per_connection", limits.requests_per_connection, most),
            ("head_fields", limits.head_fields, 256),
            ("target_bytes", limits.target_bytes, 65_534),
            ("streams", limits.streams, most),
        ] {
            if !(1..=most).contains(&value) {
                let path = path.to_owned();
                return Err(SettingsError::Limit {
                    path,
                    key,
                    value,
                    most,
                });
            }
        }
        Ok(())
    }

    pub(crate) fn plan_pools(&self) -> Vec<Pool> {
        self.pools
            .iter()
            .map(|pool| Pool {
                base: pool.base,
                size: pool.size,
            })
            .collect()
    }

    pub(crate) fn plan_log(&self) -> LogSpec {
        LogSpec {
            max_size: self.log.max_size,
            max_files: self.log.max_files,
        }
    }
}

fn default_size() -> u8 {
    24
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        Settings::read(Some(&path))
    }

    #[test]
    fn the_file_that_shows_all_settings_shows_their_defaults() {
        let text = include_str!("../../configs/daemon/config.yaml");
        assert_eq!(read(text).unwrap(), Settings::default());
        let defaults = format!("{:?}", Settings::default());
        let missing: Vec<&str> = defaults
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| defaults.contains(&format!("{word}: ")))
            // What a range is made of isn't a key.
            .filter(|word| !["", "addr", "prefix"].contains(word) && !text.contains(&format!("{word}:")))
            .collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = read("htps: []\n").unwrap_err().to_string();
        assert!(error.contains("htps"), "{error}");
    }

    #[test]
    fn a_pool_that_is_no_range_for_networks_is_refused() {
        for base in ["127.0.0.0/16", "10.0.0.1/16", "224.0.0.0/8", "169.254.0.0/16"] {
            let error = read(&format!("pools: [{{ base: {base} }}]\n")).unwrap_err();
            assert!(matches!(error, SettingsError::PoolBase { .. }), "{error}");
        }
    }

    #[test]
    fn overlapping_pools_are_refused() {
        let error = read("pools:\n  - base: 10.0.0.0/8\n  - base: 10.1.0.0/16\n").unwrap_err();
        assert!(matches!(error, SettingsError::PoolOverlap { .. }), "{error}");
    }

    #[test]
    fn a_pool_smaller_than_its_blocks_is_refused() {
        let error = read("pools:\n  - base: 10.0.0.0/25\n    size: 24\n").unwrap_err();
        assert!(matches!(error, SettingsError::PoolSize { .. }), "{error}");
    }

    #[test]
    fn a_limit_that_lets_nothing_through_is_refused_by_name() {
        for (line, most) in [
            ("head_fields: 0", "256"),
            ("target_bytes: 65535", "65534"),
            ("streams: 0", "1"),
        ] {
            let error = read(&format!("limits: {{ {line} }}\n")).unwrap_err().to_string();
            assert!(error.contains(line) && error.contains(most), "{error}");
        }
        assert!(read("limits: { head_fields: 256, target_bytes: 65534 }\n").is_ok());
    }

    #[test]
    fn what_is_written_replaces_the_default() {
        let settings = read("https: ['127.0.0.1:8443']\nlimits:\n  hold_ms: 1000\n").unwrap();
        assert_eq!(settings.https, vec!["127.0.0.1:8443".parse().unwrap()]);
        assert_eq!(settings.limits.hold_ms, 1000);
        assert_eq!(settings.limits.streams, Limits::default().streams);
    }
}
