//! The source files of the repository.

use std::fs;

use super::root;

/// A text file. `path` is relative to the root of the repository.
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    /// Returns the text without lines that are comments: mentioning an item is not using it.
    pub fn code(&self) -> String {
        let lines = self.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// Reads every file below `directory` whose name ends in one of `endings`, sorted by path.
pub fn below(directory: &str, endings: &[&str]) -> Vec<File> {
    let mut files = Vec::new();
    let mut pending = vec![root().join(directory)];
    while let Some(path) = pending.pop() {
        if path.is_dir() && !path.ends_with("target") {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() && endings.iter().any(|end| path.to_str().unwrap().ends_with(end))
        {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            files.push(File { path, text });
        }
    }
    assert!(!files.is_empty(), "there are no files below {directory}");
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Reads the files below all of `directories`.
pub fn below_all(directories: &[&str], endings: &[&str]) -> Vec<File> {
    directories.iter().flat_map(|directory| below(directory, endings)).collect()
}
