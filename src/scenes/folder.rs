//! Writes scenes to a folder.
//!
//! ```text
//! images/000000.png   the picture
//! masks/000000.png    8-bit: pixel value k is object k of the scene, counted from 1; 0 is background
//! scenes.jsonl        one scene a line: file, background, objects, description, questions
//! annotations.json    the same objects in COCO's format (boxes, areas, uncompressed run-length masks)
//! ```

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use image::GrayImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use serde::Serialize;
use serde_json::{Value, json};

use crate::scenes::generate::generate;
use crate::scenes::objects::{class_name, classes};
use crate::scenes::scene::{Question, Scene, SceneError, SceneObject, SceneOptions};

/// One line of scenes.jsonl.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    background: &'a str,
    objects: &'a [SceneObject],
    description: &'a str,
    questions: &'a [Question],
}

/// What one scene leaves behind once its pictures are written.
struct Written {
    file: String,
    line: String,
    annotations: Vec<Value>,
}

/// Writes scenes 0 to `count` of the world `seed` into `out`, on all cores, and calls `progress` with the number
/// done so far. The files are the same whatever the number of cores.
pub fn write_folder(
    out: &Path,
    seed: u64,
    count: u64,
    options: &SceneOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<(), SceneError> {
    options.check()?;
    for folder in ["images", "masks"] {
        let path = out.join(folder);
        fs::create_dir_all(&path).map_err(|source| SceneError::Write { path, source })?;
    }
    let mut lines = Output::create(out.join("scenes.jsonl"))?;
    let mut coco = Coco::create(out.join("annotations.json"), options.size)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut start = 0;
    while start < count {
        let end = count.min(start + 32 * threads);
        let mut batch: Vec<Result<Written, SceneError>> = Vec::new();
        std::thread::scope(|scope| {
            let per_thread = (end - start).div_ceil(threads);
            let workers: Vec<_> = (0..threads)
                .map(|t| (start + t * per_thread).min(end)..(start + (t + 1) * per_thread).min(end))
                .map(|range| {
                    scope.spawn(move || range.map(|i| write_scene(out, seed, i, options)).collect::<Vec<_>>())
                })
                .collect();
            for worker in workers {
                match worker.join() {
                    Ok(results) => batch.extend(results),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        for written in batch {
            let written = written?;
            lines.write(&written.line)?;
            coco.add(&written)?;
        }
        start = end;
        progress(end);
    }
    lines.finish()?;
    coco.finish()
}

fn write_scene(out: &Path, seed: u64, index: u64, options: &SceneOptions) -> Result<Written, SceneError> {
    let scene = generate(seed, index, options);
    let file = format!("{index:06}.png");
    write_png(&out.join("images").join(&file), &scene.image)?;
    write_png(&out.join("masks").join(&file), &scene.mask)?;
    let line = Line {
        file: &file,
        background: scene.background.name(),
        objects: &scene.objects,
        description: &scene.description,
        questions: &scene.questions,
    };
    let line = format!("{}\n", json!(line));
    let annotations = annotations(&scene);
    Ok(Written { file, line, annotations })
}

fn write_png<P, C>(path: &Path, picture: &image::ImageBuffer<P, C>) -> Result<(), SceneError>
where
    P: image::PixelWithColorType<Subpixel = u8>,
    C: std::ops::Deref<Target = [u8]>,
{
    let error = |source| SceneError::Write { path: path.to_owned(), source };
    let mut file = BufWriter::new(File::create(path).map_err(error)?);
    let encoder = PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::Sub);
    picture
        .write_with_encoder(encoder)
        .map_err(|source| SceneError::Picture { path: path.to_owned(), source })?;
    file.flush().map_err(error)
}

/// The scene's objects in COCO's format, ids left to [`Coco::add`].
fn annotations(scene: &Scene) -> Vec<Value> {
    let coco = |(index, object): (usize, &SceneObject)| {
        let counts = run_lengths(&scene.mask, index as u8 + 1);
        let area: u32 = counts.iter().skip(1).step_by(2).sum();
        json!({
            "category_id": object.class + 1,
            "bbox": object.bbox,
            "area": area,
            "iscrowd": 0,
            "segmentation": { "size": [scene.mask.height(), scene.mask.width()], "counts": counts },
            "color": object.color,
            "place": object.place,
            "visible": object.visible,
        })
    };
    scene.objects.iter().enumerate().map(coco).collect()
}

/// COCO's uncompressed run lengths: column by column, first a run outside (perhaps 0), then one inside, and so on.
pub(super) fn run_lengths(mask: &GrayImage, label: u8) -> Vec<u32> {
    let mut counts = Vec::new();
    let (mut inside, mut run) = (false, 0);
    for x in 0..mask.width() {
        for y in 0..mask.height() {
            if (mask.get_pixel(x, y)[0] == label) != inside {
                counts.push(run);
                (inside, run) = (!inside, 0);
            }
            run += 1;
        }
    }
    counts.push(run);
    counts
}

/// A text file that names itself in its errors.
struct Output {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Output {
    fn create(path: PathBuf) -> Result<Self, SceneError> {
        match File::create(&path) {
            Ok(file) => Ok(Output { path, file: BufWriter::new(file) }),
            Err(source) => Err(SceneError::Write { path, source }),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), SceneError> {
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|source| SceneError::Write { path: self.path.clone(), source })
    }

    fn finish(mut self) -> Result<(), SceneError> {
        self.file.flush().map_err(|source| SceneError::Write { path: self.path, source })
    }
}

/// annotations.json, written as it grows: only the list of pictures is kept, so that large sets fit in memory.
struct Coco {
    output: Output,
    size: u32,
    images: Vec<Value>,
    annotations: u64,
}

impl Coco {
    fn create(path: PathBuf, size: u32) -> Result<Self, SceneError> {
        let categories: Vec<Value> =
            (0..classes().len()).map(|class| json!({ "id": class + 1, "name": class_name(class) })).collect();
        let mut output = Output::create(path)?;
        output.write(&format!("{{\"categories\":{},\n\"annotations\":[", json!(categories)))?;
        Ok(Coco { output, size, images: Vec::new(), annotations: 0 })
    }

    fn add(&mut self, written: &Written) -> Result<(), SceneError> {
        let image_id = self.images.len() + 1;
        self.images.push(
            json!({ "id": image_id, "file_name": written.file, "width": self.size, "height": self.size }),
        );
        for annotation in &written.annotations {
            let mut annotation = annotation.clone();
            self.annotations += 1;
            annotation["id"] = json!(self.annotations);
            annotation["image_id"] = json!(image_id);
            let separator = if self.annotations == 1 { "\n" } else { ",\n" };
            self.output.write(&format!("{separator}{annotation}"))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), SceneError> {
        let images = json!(self.images);
        self.output.write(&format!("\n],\n\"images\":{images}}}\n"))?;
        self.output.finish()
    }
}
