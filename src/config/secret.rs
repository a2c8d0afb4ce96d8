//! Where secrets come from, and a type that does not show them.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where a secret is to be found; read when it is needed, so that a rotated file is picked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// `{ env = "NAME" }`
    Env(String),
    /// `{ file = "path" }`; one trailing newline is cut.
    File(PathBuf),
    /// `{ credential = "name" }`: a file in systemd's `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// A secret's value: `Debug` prints `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a secret could not be read. Names the source, never the value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("{0} is not set")]
    NotSet(String),
    #[error("{0} cannot be read")]
    Unreadable(String, #[source] io::Error),
    /// systemd sets `$CREDENTIALS_DIRECTORY` for units with `LoadCredential=`.
    #[error("{0} cannot be read: CREDENTIALS_DIRECTORY is not set")]
    NoCredentials(String),
    #[error("{0} is empty")]
    Empty(String),
    #[error("{0} is not UTF-8 text")]
    NotText(String),
    /// Control characters: a secret goes into one header line.
    #[error("{0} holds more than one line")]
    NotOneLine(String),
}

impl SecretSource {
    /// What a person would call it: `environment variable DISCORD_TOKEN`, `file /etc/…`.
    pub fn describe(&self) -> String {
        match self {
            SecretSource::Env(name) => format!("environment variable {name}"),
            SecretSource::File(path) => format!("file {}", path.display()),
            SecretSource::Credential(name) => format!("credential {name}"),
        }
    }

    /// The value as it is now: one line of text, not empty.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let value = match self {
            SecretSource::Env(name) => match std::env::var(name) {
                Ok(value) => value,
                Err(std::env::VarError::NotPresent) => {
                    return Err(SecretError::NotSet(self.describe()));
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(SecretError::NotText(self.describe()));
                }
            },
            SecretSource::File(path) => self.read_file(path)?,
            SecretSource::Credential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
                self.read_file(&self.credential(folder.as_deref(), name)?)?
            }
        };
        if value.is_empty() {
            return Err(SecretError::Empty(self.describe()));
        }
        if value.contains(char::is_control) {
            return Err(SecretError::NotOneLine(self.describe()));
        }
        Ok(Secret(value))
    }

    /// What is amiss with a secret that can be read: a file that other users can read too, or
    /// change.
    #[cfg(unix)]
    pub fn warning(&self) -> Option<String> {
        use std::os::unix::fs::MetadataExt;
        let SecretSource::File(path) = self else { return None };
        let data = std::fs::metadata(path).ok()?;
        exposure(data.mode(), data.uid(), rustix::process::geteuid().as_raw())
            .map(|what| format!("file {0} {what} {0}", path.display()))
    }

    /// File modes are known on Unix only.
    #[cfg(not(unix))]
    pub fn warning(&self) -> Option<String> {
        None
    }

    fn credential(&self, folder: Option<&OsStr>, name: &str) -> Result<PathBuf, SecretError> {
        folder
            .map(|folder| Path::new(folder).join(name))
            .ok_or_else(|| SecretError::NoCredentials(self.describe()))
    }

    fn read_file(&self, path: &Path) -> Result<String, SecretError> {
        let bytes = std::fs::read(path).map_err(|e| SecretError::Unreadable(self.describe(), e))?;
        let mut text =
            String::from_utf8(bytes).map_err(|_| SecretError::NotText(self.describe()))?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(text)
    }
}

/// Who else can read or change a file of this mode and owner, and the command that ends it.
#[cfg(unix)]
fn exposure(mode: u32, owner: u32, us: u32) -> Option<String> {
    let mode = mode & 0o777;
    let done = match (mode & 0o044 != 0, mode & 0o022 != 0) {
        (true, true) => "read and changed",
        (true, false) => "read",
        (false, true) => "changed",
        // Root may read everything, and puts secrets into place for others.
        (false, false) if owner == us || owner == 0 => return None,
        (false, false) => {
            return Some(format!("belongs to another user ({owner}), not to {us}: chown {us}"));
        }
    };
    Some(format!("can be {done} by other users (mode {mode:03o}): chmod 600"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, SecretSource) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        (folder, SecretSource::File(path))
    }

    #[test]
    fn a_file_loses_one_trailing_newline() {
        for (content, value) in [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            (" ", " "),
        ] {
            let (_folder, source) = file(content.as_bytes());
            assert_eq!(source.read().unwrap().expose(), value, "{content:?}");
        }
    }

    #[test]
    fn unusable_files_are_told_apart_and_not_quoted() {
        for (content, says) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"hunter2\nhunter3\n", "holds more than one line"),
            (b"hunter2\n\n", "holds more than one line"),
            (b"hunter\xff", "is not UTF-8 text"),
        ] {
            let (_folder, source) = file(content);
            let error = source.read().unwrap_err();
            assert_eq!(error.to_string(), format!("{} {says}", source.describe()));
            assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
        }
        let absent = SecretSource::File("/nowhere/secret".into()).read().unwrap_err();
        assert_eq!(absent.to_string(), "file /nowhere/secret cannot be read");
    }

    #[test]
    fn environment_variables() {
        let set = SecretSource::Env("PATH".into());
        assert_eq!(set.read().unwrap().expose(), std::env::var("PATH").unwrap());
        let unset = SecretSource::Env("BEADLE_SURELY_UNSET".into());
        assert_eq!(
            unset.read().unwrap_err().to_string(),
            "environment variable BEADLE_SURELY_UNSET is not set"
        );
    }

    #[test]
    fn credentials_lie_in_the_folder_of_systemd() {
        let source = SecretSource::Credential("token".into());
        let path = source.credential(Some(OsStr::new("/run/credentials/beadle")), "token").unwrap();
        assert_eq!(path, Path::new("/run/credentials/beadle/token"));
        assert_eq!(
            source.credential(None, "token").unwrap_err().to_string(),
            "credential token cannot be read: CREDENTIALS_DIRECTORY is not set"
        );
    }

    #[test]
    fn debug_does_not_show_the_value() {
        let (_folder, source) = file(b"hunter2");
        assert_eq!(format!("{:?}", source.read().unwrap()), "***");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_warned_of() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, source) = file(b"hunter2");
        let SecretSource::File(path) = &source else { unreachable!() };
        for (mode, warned) in [
            (0o600, None),
            (0o400, None),
            (0o640, Some("can be read by other users (mode 640): chmod 600 ")),
            (0o604, Some("can be read by other users (mode 604): chmod 600 ")),
            (0o620, Some("can be changed by other users (mode 620): chmod 600 ")),
            (0o606, Some("can be read and changed by other users (mode 606): chmod 600 ")),
        ] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            let said = source.warning();
            assert_eq!(said.is_some(), warned.is_some(), "{mode:o}: {said:?}");
            assert!(warned.is_none_or(|warned| said.unwrap().contains(warned)), "{mode:o}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_of_another_user_is_warned_of_unless_it_is_roots() {
        let belongs = "belongs to another user (7), not to 5: chown 5";
        for (owner, us, said) in [(5, 5, None), (0, 5, None), (7, 5, Some(belongs))] {
            assert_eq!(exposure(0o100_600, owner, us).as_deref(), said, "{owner} {us}");
        }
    }
}
