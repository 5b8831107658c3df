//! `linkspan save`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use linkspan_api::client::{Client, Download};

use crate::failure::Misuse;
use crate::terminal::print_bytes;

/// Write images to an archive that Docker and other tools can load
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan save -o shop.tar shop:1.4
  linkspan save shop:1.4 | ssh other linkspan load")]
pub(crate) struct Save {
    /// The archive [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Save {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        if self.output.is_none() && io::stdout().is_terminal() {
            return Err(Misuse::new(
                "an archive is nothing for a terminal; write it to a file with `-o FILE`",
            )
            .into());
        }
        let mut archive = client.save(&self.images).await?;
        match &self.output {
            Some(path) => to_file(&mut archive, path).await,
            None => {
                while let Some(piece) = archive.next_piece().await? {
                    print_bytes(&piece)?;
                }
                Ok(())
            }
        }
    }
}

/// The file is there whole, or not at all.
async fn to_file(archive: &mut Download, path: &Path) -> anyhow::Result<()> {
    let mut name = path
        .file_name()
        .map(OsString::from)
        .ok_or_else(|| Misuse::new("`-o` needs the name of a file"))?;
    // A device or a pipe can't be replaced, only written to.
    if fs::metadata(path).is_ok_and(|about| !about.is_file()) {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(path)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        return copy(archive, &mut file, path).await;
    }
    name.push(format!(".part-{}", std::process::id()));
    let part = path.with_file_name(name);
    let mut file = File::create_new(&part).with_context(|| format!("cannot write `{}`", part.display()))?;
    let written = match copy(archive, &mut file, &part).await {
        Ok(()) => fs::rename(&part, path).with_context(|| format!("cannot write `{}`", path.display())),
        error => error,
    };
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&part);
    }
    written
}

async fn copy(archive: &mut Download, file: &mut File, path: &Path) -> anyhow::Result<()> {
    while let Some(piece) = archive.next_piece().await? {
        file.write_all(&piece)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}
