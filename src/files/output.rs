//! A folder that a run writes: under temporary names while it goes on, put in place together at its end; and one file
//! by itself.
//!
//! What stops a run before [`Output::commit`], a full disk or a signal, leaves the files of the run before it as they
//! were. Commit takes its seals away first and writes the new ones last: where a seal is, everything is there and
//! is of one run. One run at a time holds a folder.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufWriter, Write},
    iter, mem,
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::files::{error::WriteError, input};

/// How temporary names begin.
const PART: &str = ".sightline-part-";
/// The same of a file that is written by itself: it says nothing of the folder that it lies in.
const ALONE: &str = ".sightline-file-";
/// Nobody writes one file for so long: what is older was left by a program that was stopped.
const LEFT: Duration = Duration::from_secs(3600);

/// Which files a kind of run leaves. Names have `/` between folder and file.
#[derive(Debug)]
pub struct Layout {
    /// Folders inside it that files lie in.
    pub folders: &'static [&'static str],
    /// Files that say that the others are whole.
    pub seals: &'static [&'static str],
    /// Whether a file of this name is one that such a run leaves, seals aside: then an old one goes.
    pub leaves: fn(&str) -> bool,
    /// Whether files are on the disk before they get their names. Not worth minutes where thousands can be made
    /// again at will.
    pub durable: bool,
}

/// A folder that is being written.
#[derive(Debug)]
pub struct Output {
    dir: PathBuf,
    layout: &'static Layout,
    /// Finished files: the name to be, and the number in the temporary one.
    written: Mutex<Vec<(String, u64)>>,
    next: AtomicU64,
    /// Folders that were made for it, the deepest first.
    made: Vec<PathBuf>,
    /// Locked for as long as this lives.
    lock: File,
}

impl Output {
    /// Takes hold of a folder, which is made if need be. Its files stay as they are.
    ///
    /// # Errors
    /// [`WriteError`]: nothing can be written into it, or another run is at it.
    pub fn open(dir: &Path, layout: &'static Layout) -> Result<Self, WriteError> {
        let refused = |source| WriteError::Refused { file: dir.to_path_buf(), source };
        let missing = dir.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists());
        let made: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
        let lock = match fs::create_dir_all(dir).and_then(|()| lockable(dir)) {
            Ok(lock) => lock,
            Err(source) => {
                take_away(&made);
                return Err(refused(source));
            }
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(WriteError::Busy { place: dir.to_path_buf() }),
            Err(TryLockError::Error(e)) => {
                log::warn!("{}: cannot be locked ({e}); write no other run into it now", dir.display());
            }
        }
        let (written, next) = (Mutex::default(), AtomicU64::new(1));
        let output = Output { dir: dir.to_path_buf(), layout, written, next, made, lock };
        // Asked now, not after a long run.
        let probe = output.part(0);
        let asked =
            output.sweep().and_then(|()| File::create_new(&probe)).and_then(|_| fs::remove_file(&probe));
        asked.map_err(refused)?;
        Ok(output)
    }

    /// Begins a file.
    ///
    /// # Errors
    /// [`WriteError::Refused`].
    pub fn create(&self, name: &str) -> Result<Part<'_>, WriteError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let file = File::create_new(self.part(number)).map_err(|source| self.refused(name, source))?;
        let file = BufWriter::with_capacity(1 << 18, file);
        Ok(Part { output: self, name: name.to_string(), number, file })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// [`WriteError::Refused`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let mut part = self.create(name)?;
        part.put(bytes)?;
        part.finish()
    }

    /// Where a file of this name will be.
    pub fn place(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Puts all finished files in place, the seals last, and takes away what an earlier run left.
    ///
    /// # Errors
    /// [`WriteError::Refused`].
    pub fn commit(self) -> Result<(), WriteError> {
        let written = mem::take(&mut *self.written());
        for (name, _) in &written {
            if self.place(name).is_dir() {
                return Err(self.refused(name, io::ErrorKind::IsADirectory.into()));
            }
        }
        for folder in self.layout.folders {
            fs::create_dir_all(self.place(folder)).map_err(|source| self.refused(folder, source))?;
        }
        let old = self.old()?;
        for seal in self.layout.seals {
            self.remove(seal)?;
        }
        self.sync();
        for name in old {
            self.remove(&name)?;
        }
        let is_seal = |(name, _): &(String, u64)| self.layout.seals.contains(&name.as_str());
        let (seals, files): (Vec<_>, Vec<_>) = written.into_iter().partition(is_seal);
        for some in [files, seals] {
            for (name, number) in some {
                let placed = fs::rename(self.part(number), self.place(&name));
                placed.map_err(|source| self.refused(&name, source))?;
            }
            self.sync();
        }
        Ok(())
    }

    /// The names of files that an earlier run left, seals aside.
    fn old(&self) -> Result<Vec<String>, WriteError> {
        let mut old = Vec::new();
        for folder in iter::once("").chain(self.layout.folders.iter().copied()) {
            let unread = |source| self.refused(folder, source);
            for entry in fs::read_dir(self.place(folder)).map_err(unread)? {
                let entry = entry.map_err(unread)?;
                let Ok(file) = entry.file_name().into_string() else { continue };
                let name = if folder.is_empty() { file } else { format!("{folder}/{file}") };
                let is_file = entry.file_type().is_ok_and(|found| !found.is_dir());
                if is_file && (self.layout.leaves)(&name) {
                    old.push(name);
                }
            }
        }
        Ok(old)
    }

    fn remove(&self, name: &str) -> Result<(), WriteError> {
        match fs::remove_file(self.place(name)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.refused(name, source)),
            _ => Ok(()),
        }
    }

    /// Removes temporary files: what is left of runs that were stopped, or of this one when it fails.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if is_part(&entry) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Where the folder itself is what is locked, its entries are made to reach the disk in this order.
    fn sync(&self) {
        // Not every file system can, and none needs it but for a failure of power.
        let _ = self.lock.sync_all();
    }

    fn part(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{PART}{number}"))
    }

    fn written(&self) -> MutexGuard<'_, Vec<(String, u64)>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, name: &str, source: io::Error) -> WriteError {
        WriteError::Refused { file: self.place(name), source }
    }
}

impl Drop for Output {
    /// What cannot be removed now is removed by the next run.
    fn drop(&mut self) {
        let _ = self.sweep();
        take_away(&self.made);
    }
}

/// A file that is being written; without [`Part::finish`] there is none.
#[derive(Debug)]
pub struct Part<'a> {
    output: &'a Output,
    name: String,
    number: u64,
    file: BufWriter<File>,
}

impl Part<'_> {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`WriteError::Refused`].
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.file.write_all(bytes).map_err(|source| self.output.refused(&self.name, source))
    }

    /// Ends the file, which gets its name with all others.
    ///
    /// # Errors
    /// [`WriteError::Refused`].
    pub fn finish(self) -> Result<(), WriteError> {
        let Part { output, name, number, file } = self;
        let file = file.into_inner().map_err(|e| output.refused(&name, e.into_error()))?;
        if output.layout.durable {
            file.sync_all().map_err(|source| output.refused(&name, source))?;
        }
        output.written().push((name, number));
        Ok(())
    }
}

impl Write for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes one file: under a temporary name beside it, and in its place when it is whole and on the disk. Whatever
/// stops that leaves the file that was there.
///
/// # Errors
/// [`WriteError::Refused`].
pub fn write_file(file: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    // Through a link, to the file that it names.
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    put_in_place(&target, bytes).map_err(|source| WriteError::Refused { file: file.to_path_buf(), source })
}

fn put_in_place(target: &Path, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if let Err(e) = input::size(target)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    if target.file_name().is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no name"));
    }
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sweep_alone(dir);
    // Two programs may write the same file at once: one of both stays, whole.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let part = dir.join(format!("{ALONE}{}-{number}", process::id()));
    let written = File::create_new(&part).and_then(|mut out| {
        out.write_all(bytes)?;
        out.sync_all()
    });
    if let Err(e) = written.and_then(|()| fs::rename(&part, target)) {
        let _ = fs::remove_file(&part);
        return Err(e);
    }
    if cfg!(unix) {
        // Not every file system can, and none needs it but for a failure of power.
        let _ = File::open(dir).and_then(|dir| dir.sync_all());
    }
    Ok(())
}

/// Removes what programs left that were stopped while they wrote one file.
fn sweep_alone(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_alone = entry.file_name().to_string_lossy().starts_with(ALONE);
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_alone && age().is_some_and(|age| age > LEFT) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a folder has what only a run leaves that was stopped while it wrote.
pub fn was_stopped(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|entries| entries.flatten().any(|entry| is_part(&entry)))
}

fn is_part(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with(PART)
}

/// What a lock is taken on: the folder itself where the system opens folders, so that nothing is left behind and a
/// killed run holds nothing; elsewhere a file in it, which stays.
fn lockable(dir: &Path) -> io::Result<File> {
    match cfg!(unix) {
        true => File::open(dir),
        false => {
            OpenOptions::new().write(true).create(true).truncate(false).open(dir.join(".sightline-lock"))
        }
    }
}

/// Removes folders that are empty.
fn take_away(made: &[PathBuf]) {
    made.iter().for_each(|dir| _ = fs::remove_dir(dir));
}

#[cfg(test)]
mod tests {
    use super::*;

    static LAYOUT: Layout = Layout {
        folders: &["maps"],
        seals: &["seal"],
        leaves: |name| name == "data" || name.starts_with("maps/m"),
        durable: true,
    };

    fn open(dir: &Path) -> Output {
        Output::open(dir, &LAYOUT).unwrap()
    }

    /// Names and contents, folders left out.
    fn files(dir: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for folder in ["", "maps/"] {
            for entry in fs::read_dir(dir.join(folder)).into_iter().flatten().flatten() {
                if let Ok(text) = fs::read_to_string(entry.path()) {
                    found.push((format!("{folder}{}", entry.file_name().to_string_lossy()), text));
                }
            }
        }
        found.sort();
        found
    }

    fn of(run: &str, names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| (name.to_string(), run.to_string())).collect()
    }

    fn write(dir: &Path, run: &str, names: &[&str]) -> Output {
        let output = open(dir);
        names.iter().for_each(|name| output.write(name, run.as_bytes()).unwrap());
        output
    }

    #[test]
    fn a_folder_has_the_files_of_one_run() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "one", &["seal", "data", "maps/m1", "maps/m2"]).commit().unwrap();
        assert_eq!(files(dir.path()), of("one", &["data", "maps/m1", "maps/m2", "seal"]));
        fs::write(dir.path().join("maps/others"), "mine").unwrap();
        // Until it is committed the second run changes nothing, and if it fails it leaves nothing.
        let before = files(dir.path());
        let output = write(dir.path(), "two", &["data", "maps/m1"]);
        assert!(was_stopped(dir.path()));
        output.create("maps/m2").unwrap().put(b"not finished").unwrap();
        drop(output);
        assert_eq!(files(dir.path()), before);
        write(dir.path(), "two", &["data", "maps/m1", "seal"]).commit().unwrap();
        let mut expected = of("two", &["data", "maps/m1", "seal"]);
        expected.insert(2, ("maps/others".to_string(), "mine".to_string()));
        assert_eq!(files(dir.path()), expected);
        assert!(!was_stopped(dir.path()));
    }

    #[test]
    fn where_the_end_fails_there_is_no_seal_or_all_of_the_old_run() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "one", &["data", "maps/m1", "seal"]).commit().unwrap();
        let before = files(dir.path());
        // A folder in the place of a file is seen before anything is touched.
        fs::create_dir(dir.path().join("extra")).unwrap();
        let error = write(dir.path(), "two", &["data", "extra", "seal"]).commit().unwrap_err();
        assert!(error.to_string().contains("extra"), "{error}");
        assert_eq!(files(dir.path()), before);
        // A temporary file that is lost is not: what is there then has no seal.
        let output = write(dir.path(), "two", &["data", "maps/m1", "seal"]);
        fs::remove_file(output.part(2)).unwrap();
        output.commit().unwrap_err();
        assert_eq!(files(dir.path()), of("two", &["data"]));
    }

    #[test]
    fn one_run_at_a_time_writes_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = write(dir.path(), "one", &["data"]);
        let busy = Output::open(dir.path(), &LAYOUT).unwrap_err();
        assert!(matches!(busy, WriteError::Busy { .. }), "{busy}");
        first.commit().unwrap();
        assert_eq!(files(&open(dir.path()).dir), of("one", &["data"]));
    }

    #[test]
    fn a_folder_that_was_made_for_nothing_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        drop(write(&deep, "one", &["data"]));
        assert!(!dir.path().join("a").exists());
        fs::write(dir.path().join("file"), "kept").unwrap();
        for wrong in ["file", "file/below"] {
            let error = Output::open(&dir.path().join(wrong), &LAYOUT).unwrap_err();
            assert!(error.to_string().contains("cannot be written"), "{error}");
        }
        // What a killed run left goes with the next.
        fs::write(dir.path().join(format!("{PART}7")), "half").unwrap();
        drop(open(dir.path()));
        assert_eq!(files(dir.path()), of("kept", &["file"]));
    }

    #[test]
    fn one_file_is_whole_or_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("map.png");
        write_file(&file, b"one").unwrap();
        write_file(&file, b"two").unwrap();
        // What was left an hour ago goes, what may be at work stays; neither makes a run's folder a stopped one.
        for (name, age) in [("old", 2 * LEFT), ("new", Duration::ZERO)] {
            let left = File::create_new(dir.path().join(format!("{ALONE}{name}"))).unwrap();
            left.set_modified(std::time::SystemTime::now() - age).unwrap();
        }
        assert!(!was_stopped(dir.path()));
        write_file(&dir.path().join("more.png"), b"more").unwrap();
        let expected = [(format!("{ALONE}new"), ""), ("map.png".into(), "two"), ("more.png".into(), "more")];
        assert_eq!(files(dir.path()), expected.map(|(name, text)| (name, text.to_string())));
        for wrong in [dir.path().to_path_buf(), dir.path().join("none/map.png"), file.join("below")] {
            let error = write_file(&wrong, b"x").unwrap_err().to_string();
            assert!(
                error.contains("cannot be written") && error.contains(wrong.to_str().unwrap()),
                "{error}"
            );
        }
        assert_eq!(files(dir.path()).len(), 3, "nothing is left of what failed");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&file, dir.path().join("link.png")).unwrap();
            write_file(&dir.path().join("link.png"), b"three").unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"three");
            assert!(dir.path().join("link.png").is_symlink());
        }
    }

    #[cfg(unix)]
    #[test]
    fn modes_are_those_of_any_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "one", &["data", "seal"]).commit().unwrap();
        fs::write(dir.path().join("plain"), "").unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!((mode("data"), mode("seal")), (mode("plain"), mode("plain")));
    }
}
