//! An experiment on each image of a folder: which images there are, and which mask belongs to which.

use std::path::{Path, PathBuf};

use crate::{
    image::files::image_files,
    spec::{experiment::Experiment, picture::ImageSource},
};

/// The images of a folder, by name.
///
/// # Errors
/// In words: it cannot be read, or holds none.
pub fn images_of(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let files = image_files(dir).map_err(|e| format!("{}: cannot be read ({e})", dir.display()))?;
    if files.is_empty() {
        return Err(format!("{}: holds no image", dir.display()));
    }
    Ok(files)
}

/// The same experiment on another image, where it has one. A mask belongs to one image: another's lies
/// beside it, under the image's name.
pub fn moved_to(experiment: &Experiment, image: &Path) -> Experiment {
    let mut experiment = experiment.clone();
    if let [picture] = &mut experiment.images[..]
        && picture.image.file() != Some(image)
    {
        picture.image = ImageSource::File(image.to_path_buf());
        if let (Some(object), Some(name)) = (&mut picture.object, image.file_name()) {
            object.file.set_file_name(name);
        }
    }
    experiment
}
