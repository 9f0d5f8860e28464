//! Debian packages: installed when root, asked for otherwise.

use std::process::{Command, Stdio};

use crate::{Failure, machine};

/// Settings that keep packages from asking questions and from starting their services.
const QUIET: [(&str, &str); 2] = [("RUNLEVEL", "1"), ("DEBIAN_FRONTEND", "noninteractive")];

/// Installs these packages; nothing happens for an empty list.
pub(crate) fn install(packages: &[&str]) -> Result<(), Failure> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if machine::on_path("apt-get").is_none() {
        return Err(format!("this machine has no apt-get; install what these Debian packages bring: {list}"));
    }
    if !is_root()? {
        return Err(format!("these packages are missing: {list}\n{}", command_to_type(&list)));
    }
    eprintln!("installing {list}");
    // Old lists may still be good enough, so only the installation decides.
    if !apt_get(&["update", "-qq"])? {
        eprintln!("apt-get update failed; trying with the package lists that are there");
    }
    let install = ["install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600"];
    if !apt_get(&[&install, packages].concat())? {
        return Err(format!("apt-get could not install {list}; its own messages are above"));
    }
    Ok(())
}

fn command_to_type(list: &str) -> String {
    let quiet = QUIET.map(|(key, value)| format!("{key}={value}")).join(" ");
    format!(
        "install them with\n\n  sudo apt-get update && sudo {quiet} apt-get install -y --no-install-recommends {list}\n"
    )
}

fn apt_get(args: &[&str]) -> Result<bool, Failure> {
    let mut command = Command::new("apt-get");
    command.args(args).envs(QUIET).stdin(Stdio::null());
    let status = command.status().map_err(|error| format!("cannot run apt-get: {error}"))?;
    Ok(status.success())
}

fn is_root() -> Result<bool, Failure> {
    let output = Command::new("id").arg("-u").output().map_err(|error| format!("cannot run id: {error}"))?;
    Ok(output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_type_is_complete() {
        let command = command_to_type("make postgresql");
        assert!(command.contains(
            "sudo apt-get update && sudo RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
             apt-get install -y --no-install-recommends make postgresql\n"
        ));
    }

    #[test]
    fn nothing_is_asked_for_when_nothing_is_missing() {
        assert_eq!(install(&[]), Ok(()));
    }
}
