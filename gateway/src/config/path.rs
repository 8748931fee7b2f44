//! Paths that the configuration names: folders, files, files that hold a secret.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::value::{Literal, Setting, text};

impl Setting for PathBuf {
    const FORM: &'static str =
        "a path; relative ones start at the folder of the file that names them";

    fn read(literal: &Literal) -> Option<Self> {
        let text = text(literal)?;
        (!text.is_empty() && !text.contains('\0')).then(|| Self::from(text))
    }

    fn settle(self, base: &Path) -> Self {
        base.join(self)
    }
}

/// Name of the store's folder in the data folder.
pub const STORE_FOLDER: &str = "store";

/// The folder that holds everything the gateway stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFolder(PathBuf);

impl DataFolder {
    /// The folder at `path`.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a user's data goes by the XDG base directory specification; a relative
    /// `XDG_DATA_HOME` is ignored, as the specification asks.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        Self::of_environment(|name| std::env::var_os(name))
    }

    fn of_environment(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let absolute = |name| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let share = absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local").join("share")))
            .or_else(|| absolute("LOCALAPPDATA"))?;
        Some(Self(share.join("supercargo")))
    }
}

impl Setting for DataFolder {
    const FORM: &'static str = PathBuf::FORM;
    const UNSET: &'static str =
        "not set: `$XDG_DATA_HOME/supercargo`, else `~/.local/share/supercargo`";

    fn read(literal: &Literal) -> Option<Self> {
        PathBuf::read(literal).map(Self)
    }

    fn settle(self, base: &Path) -> Self {
        Self(self.0.settle(base))
    }

    fn unset() -> Option<Self> {
        Self::of_user()
    }
}

/// Largest secret, in bytes: tokens are shorter; a whole log named by mistake is refused.
const SECRET_MAX_BYTES: usize = 4096;

/// A file that holds a secret; secrets themselves never stand in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The secret: the file's text without the line break at its end.
    ///
    /// # Errors
    /// When the file cannot be read, is no text, is empty or longer than 4096 bytes.
    pub fn secret(&self) -> std::io::Result<String> {
        let text = std::fs::read_to_string(&self.0)?;
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() || secret.len() > SECRET_MAX_BYTES {
            let found = format!("holds {} bytes, need 1 to {SECRET_MAX_BYTES}", secret.len());
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, found));
        }
        Ok(secret.to_owned())
    }
}

impl Setting for SecretFile {
    const FORM: &'static str = "the path of a file that holds the secret; relative ones start at the folder of the file that names them";

    fn read(literal: &Literal) -> Option<Self> {
        PathBuf::read(literal).map(Self)
    }

    fn settle(self, base: &Path) -> Self {
        Self(self.0.settle(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_users_data_goes_where_the_xdg_specification_says() {
        let folder = |variables: &[(&str, &str)]| {
            let value = |name: &str| {
                let named = variables.iter().find(|(known, _)| *known == name);
                named.map(|(_, value)| OsString::from(value))
            };
            DataFolder::of_environment(value).map(|folder| folder.path().display().to_string())
        };
        let own = Some("/home/eve/.local/share/supercargo".to_owned());
        let home = ("HOME", "/home/eve");
        assert_eq!(folder(&[home]), own);
        assert_eq!(folder(&[home, ("XDG_DATA_HOME", "")]), own);
        assert_eq!(folder(&[home, ("XDG_DATA_HOME", "data")]), own, "relative");
        let set = ("XDG_DATA_HOME", "/srv/share");
        assert_eq!(
            folder(&[home, set]).as_deref(),
            Some("/srv/share/supercargo")
        );
        assert_eq!(folder(&[set]).as_deref(), Some("/srv/share/supercargo"));
        assert_eq!(
            folder(&[("HOME", "eve")]),
            None,
            "no absolute folder at all"
        );
    }
}
