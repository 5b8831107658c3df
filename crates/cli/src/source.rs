//! Reads a site's file with everything that it refers to, and checks it before any daemon is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use linkspan_api::v1::SiteSource;
use linkspan_site::{Problems, Site, Sources};

use crate::failure::{BadSite, Misuse};

/// Longest file that is read, in bytes; nobody writes a site of that size.
const FILE_MAX: u64 = linkspan_site::MAX_FILE_BYTES as u64;

/// The names that are looked for when none is given.
const DEFAULT_FILES: [&str; 2] = ["linkspan.yaml", "linkspan.yml"];

/// A file without problems.
pub(crate) struct Loaded {
    /// For the daemon.
    pub(crate) source: SiteSource,
    /// What it means.
    pub(crate) site: Site,
    /// The path as typed, for people.
    pub(crate) shown: PathBuf,
}

/// Reads and checks the file that was named, or the one in the working directory.
pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Loaded> {
    let shown = match file {
        Some(file) => file.to_owned(),
        None => find(Path::new("")).ok_or_else(|| {
            Misuse::new("no `linkspan.yaml` here; go to the site's folder, or name its file with `-f FILE`")
        })?,
    };
    let here = std::env::current_dir().context("cannot tell the working directory")?;
    load_from(&here, &shown, |name| std::env::var(name).ok())
}

/// The project's name alone.
pub(crate) fn project(file: Option<&Path>) -> anyhow::Result<String> {
    load(file).map(|loaded| loaded.site.name.to_string())
}

/// The project of the working directory, if there is a file and it is in order.
pub(crate) fn project_here() -> Option<String> {
    project(Some(&find(Path::new(""))?)).ok()
}

fn find(folder: &Path) -> Option<PathBuf> {
    DEFAULT_FILES
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

fn load_from(here: &Path, shown: &Path, ours: impl Fn(&str) -> Option<String>) -> anyhow::Result<Loaded> {
    let path = clean(&here.join(shown));
    let folder = path.parent().unwrap_or(Path::new("/"));
    let text = read(&path, shown)?.ok_or_else(|| Misuse::new(format!("no file `{}`", shown.display())))?;
    let bad = |problems: Problems| BadSite(problems.render(shown, &text));
    let references = linkspan_site::references(&text).map_err(bad)?;

    let mut files = BTreeMap::new();
    let mut names: BTreeSet<String> = references.variables.into_iter().collect();
    for env_file in references.env_files {
        // Whether it may be missing is for the parser to say; it knows the line.
        if let Some(text) = read_text(&folder.join(&env_file.path), Path::new(&env_file.path))? {
            names.extend(linkspan_site::dotenv_references(&text));
            files.insert(env_file.path, text);
        }
    }
    for path in references.files {
        if let Some(text) = read_text(&folder.join(&path), Path::new(&path))? {
            files.insert(path, text);
        }
    }
    let variables = variables(&folder.join(".env"), &names, ours)?;
    let sources = Sources {
        file: &path,
        text: &text,
        variables: &variables,
        files: &files,
    };
    let site = linkspan_site::parse(&sources).map_err(bad)?;
    let text =
        String::from_utf8(text).map_err(|_| Misuse::new(format!("`{}` is not UTF-8", shown.display())))?;
    Ok(Loaded {
        source: SiteSource {
            path,
            text,
            variables,
            files,
        },
        site,
        shown: shown.to_owned(),
    })
}

/// Of `names`, those that the environment or `.env` has; the environment wins, as in Compose.
fn variables(
    dotenv: &Path,
    names: &BTreeSet<String>,
    ours: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let shown = Path::new(".env");
    let from_file = match read_text(dotenv, shown)? {
        Some(text) => {
            let used = linkspan_site::dotenv_references(&text);
            let known = used
                .iter()
                .filter_map(|name| Some((name.clone(), ours(name)?)))
                .collect();
            linkspan_site::parse_dotenv_with(&text, &known)
                .map_err(|problems| BadSite(problems.render(shown, text.as_bytes())))?
        }
        None => BTreeMap::new(),
    };
    let value = |name: &String| ours(name).or_else(|| from_file.get(name).cloned());
    Ok(names
        .iter()
        .filter_map(|name| Some((name.clone(), value(name)?)))
        .collect())
}

/// `None` when there is no such file. A file that is too long is refused before it is read.
fn read(path: &Path, shown: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let shown = shown.display();
    let refuse = |error: io::Error| Misuse::new(format!("cannot read `{shown}`: {error}"));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(error).into()),
    };
    let about = file.metadata().map_err(refuse)?;
    if about.is_dir() {
        return Err(Misuse::new(format!("`{shown}` is a folder; name the file in it")).into());
    }
    let too_long = || {
        Misuse::new(format!(
            "`{shown}` is longer than {FILE_MAX} bytes; that can't be meant"
        ))
    };
    if about.len() > FILE_MAX {
        return Err(too_long().into());
    }
    let mut bytes = Vec::new();
    // Pipes and devices don't tell their length.
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(refuse)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(too_long().into());
    }
    Ok(Some(bytes))
}

fn read_text(path: &Path, shown: &Path) -> anyhow::Result<Option<String>> {
    let Some(bytes) = read(path, shown)? else {
        return Ok(None);
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Misuse::new(format!("`{}` is not UTF-8", shown.display())).into()),
    }
}

/// Without `.` and `..`, by the letters of the path: the folder's name is the project's, so a link keeps its own.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    const WEB: &str = "name: shop\ncontainers:\n  web:\n    image: web:${TAG}\n    env_file: web.env\n";

    #[test]
    fn variables_come_from_the_environment_then_dot_env_and_only_those_that_are_used() {
        let dir = folder(&[
            ("linkspan.yaml", WEB),
            (".env", "TAG=1\nSECRET=x\nFROM_FILE=$BASE/y\n"),
            ("web.env", "A=${FROM_FILE}\n"),
        ]);
        let loaded = load_from(dir.path(), Path::new("linkspan.yaml"), |name| match name {
            "BASE" => Some("b".to_owned()),
            _ => None,
        })
        .unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(loaded.site.name.as_str(), "shop");
        let variables: Vec<_> = loaded
            .source
            .variables
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(variables, [("FROM_FILE", "b/y"), ("TAG", "1")]);
        assert_eq!(loaded.source.files["web.env"], "A=${FROM_FILE}\n");
        assert_eq!(loaded.source.path, dir.path().join("linkspan.yaml"));

        let ours = |name: &str| matches!(name, "TAG" | "BASE").then(|| "2".to_owned());
        let loaded =
            load_from(dir.path(), Path::new("linkspan.yaml"), ours).unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!(loaded.source.variables["TAG"], "2");
    }

    #[test]
    fn a_file_of_users_comes_along_as_it_is() {
        let site = "name: shop\nroutes: { a.example: { to: web:80, basic_auth: ./users } }\ncontainers: { web: { image: web } }\n";
        let users = "anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n";
        let dir = folder(&[("linkspan.yaml", site), ("users", users)]);
        let loaded =
            load_from(dir.path(), Path::new("linkspan.yaml"), nothing).unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!(loaded.source.files["./users"], users);
        let auth = loaded.site.routes[0].middleware.basic_auth.as_ref();
        assert!(auth.is_some_and(|auth| auth.users.contains_key("anna")));
    }

    #[test]
    fn a_missing_env_file_is_bad_input() {
        let dir = folder(&[("linkspan.yaml", WEB), (".env", "TAG=1\n")]);
        let Err(error) = load_from(dir.path(), Path::new("linkspan.yaml"), nothing) else {
            panic!("it was taken")
        };
        assert!(error.is::<BadSite>() || error.is::<Misuse>());
        assert!(error.to_string().contains("web.env"), "{error}");
    }

    #[test]
    fn problems_are_rendered_with_the_path_as_typed() {
        let dir = folder(&[("linkspan.yaml", "name: shop\ncontianers: {}\n")]);
        let Err(error) = load_from(dir.path(), Path::new("./linkspan.yaml"), nothing) else {
            panic!("it was taken")
        };
        let text = error.downcast_ref::<BadSite>().unwrap().to_string();
        assert!(text.contains("./linkspan.yaml:2:1"), "{text}");
    }

    #[test]
    fn a_file_of_100_megabytes_is_refused_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        File::create(dir.path().join("big.yaml"))
            .unwrap()
            .set_len(100 << 20)
            .unwrap();
        let Err(error) = load_from(dir.path(), Path::new("big.yaml"), nothing) else {
            panic!("it was taken")
        };
        assert_eq!(
            error.to_string(),
            "`big.yaml` is longer than 1048576 bytes; that can't be meant"
        );
        let Err(error) = load_from(Path::new("/"), Path::new("dev/zero"), nothing) else {
            panic!("it was taken")
        };
        assert!(error.to_string().contains("is longer than"), "{error}");
    }

    #[test]
    fn no_file_a_folder_and_bytes_that_are_no_text_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bin.yaml"), b"name: \xff\xfe\n").unwrap();
        for (name, words) in [
            ("none.yaml", "no file `none.yaml`"),
            (".", "is a folder"),
            ("bin.yaml", "UTF-8"),
        ] {
            let Err(error) = load_from(dir.path(), Path::new(name), nothing) else {
                panic!("{name} was taken")
            };
            assert!(error.to_string().contains(words), "{name}: {error}");
            assert!(error.is::<BadSite>() || error.is::<Misuse>(), "{name}");
        }
    }

    #[test]
    fn the_folder_gives_the_name_also_by_a_way_around() {
        assert_eq!(
            clean(Path::new("/srv/shop/sub/../linkspan.yaml")),
            Path::new("/srv/shop/linkspan.yaml")
        );
        assert_eq!(
            clean(Path::new("/srv/./shop/linkspan.yaml")),
            Path::new("/srv/shop/linkspan.yaml")
        );
        assert_eq!(clean(Path::new("/../linkspan.yaml")), Path::new("/linkspan.yaml"));
    }
}
