//! Images that lie in no file, given one beside the session that names them.

use std::{
    borrow::Cow,
    io::{self, Cursor},
    path::{Path, PathBuf, absolute},
};

use image::ImageFormat;

use crate::{
    files::{input, output::write_file, sum},
    image::open::decode,
    spec::picture::ImageSource,
    studies::session::{Session, SessionError},
};

impl Session {
    /// Gives images that lie in no file one of their own in a folder, that of the session: `pasted-1.png` and so on,
    /// the next number that is free or whose file is that image. They are written at once, and named by the session.
    ///
    /// # Errors
    /// [`SessionError`]: one is no image, or cannot be written.
    pub fn with_pasted(mut self, folder: &Path) -> Result<Self, SessionError> {
        let folder = absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        for picture in self.entries.iter_mut().flat_map(|entry| &mut entry.experiment.images) {
            let (file, sum) = match &picture.image {
                ImageSource::File(_) => continue,
                ImageSource::Bytes(bytes, name) => place(&folder, bytes, name)?,
            };
            self.files.insert(file.clone(), sum);
            picture.image = ImageSource::File(file);
        }
        Ok(self)
    }
}

/// The file of an image in a folder, the first of its name that is not there yet or holds that image; and its sum.
fn place(folder: &Path, bytes: &[u8], name: &str) -> Result<(PathBuf, String), SessionError> {
    let fail = |file: &Path, why: String| SessionError { file: file.to_path_buf(), why };
    let png = as_png(bytes, name).map_err(|why| fail(folder, why))?;
    let mut number = 1_usize;
    loop {
        let file = folder.join(format!("pasted-{number}.png"));
        match input::read(&file) {
            Ok(found) if found == *png => return Ok((file, sum::of_bytes(&png))),
            // Another's; or what is no file at all.
            Ok(_) => number += 1,
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => number += 1,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                write_file(&file, &png).map_err(|e| fail(folder, e.to_string()))?;
                return Ok((file, sum::of_bytes(&png)));
            }
            Err(e) => return Err(fail(&file, format!("cannot be read ({e})"))),
        }
    }
}

/// An image in memory as the bytes of a PNG file, which most are already.
fn as_png<'a>(bytes: &'a [u8], name: &str) -> Result<Cow<'a, [u8]>, String> {
    if image::guess_format(bytes).is_ok_and(|format| format == ImageFormat::Png) {
        return Ok(Cow::Borrowed(bytes));
    }
    let picture = decode(bytes, name).map_err(|e| e.to_string())?;
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).map_err(|e| e.to_string())?;
    Ok(Cow::Owned(png.into_inner()))
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::{checkpoint::weights::WeightDtype, image::open::open, spec::experiment::Experiment};

    fn bytes(level: u8, format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        RgbImage::from_pixel(4, 3, Rgb([level; 3])).write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    fn ask(bytes: Vec<u8>) -> Experiment {
        Experiment::ask(ImageSource::Bytes(bytes.into(), "pasted image".to_string()), "what?", 4)
    }

    #[test]
    fn what_was_pasted_lies_beside_its_session_and_others_keep_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let (dark, light) = (bytes(20, ImageFormat::Png), bytes(200, ImageFormat::Bmp));
        // Of another session.
        std::fs::write(dir.path().join("pasted-1.png"), "mine").unwrap();
        let asked = [ask(dark.clone()), ask(light), ask(dark.clone())];
        let session = Session::begin(dir.path(), WeightDtype::F32, &asked).unwrap();
        assert!(session.text().is_err(), "it lies in no file");
        let place = || session.clone().with_pasted(dir.path()).unwrap();
        let placed = place();
        let files: Vec<&Path> =
            placed.entries.iter().filter_map(|entry| entry.experiment.images[0].image.file()).collect();
        let at = |n: usize| dir.path().join(format!("pasted-{n}.png"));
        assert_eq!(files, [at(2), at(3), at(2)]);
        assert_eq!(std::fs::read(at(2)).unwrap(), dark, "a PNG is kept to the byte");
        assert_eq!(open(&at(3)).unwrap().get_pixel(0, 0).0, [200; 3]);
        assert_eq!(std::fs::read(at(1)).unwrap(), b"mine");
        assert_eq!(placed, place(), "a second time nothing new is written");
        assert_eq!(Session::parse(&placed.text().unwrap()).unwrap(), placed);
        assert!(placed.changed().is_empty());
        std::fs::write(at(2), "another").unwrap();
        assert_eq!(placed.changed().len(), 1);
    }

    #[test]
    fn what_is_no_image_or_has_no_place_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let session = |bytes| Session::quick(dir.path(), WeightDtype::F32, &[ask(bytes)]).unwrap();
        let error = session(vec![1, 2, 3]).with_pasted(dir.path()).unwrap_err().to_string();
        assert!(error.contains("pasted image"), "{error}");
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for wrong in [&file, &dir.path().join("none")] {
            let error = session(bytes(9, ImageFormat::Png)).with_pasted(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong.to_str().unwrap()), "{error}");
        }
    }
}
