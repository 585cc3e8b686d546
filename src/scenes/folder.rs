//! Writes scenes to a folder.
//!
//! ```text
//! images/000000.png   the picture
//! masks/000000.png    8-bit: pixel value k is object k of the scene, counted from 1; 0 is background
//! scenes.jsonl        one scene a line: file, background, objects, description, questions
//! annotations.json    the same objects in COCO's format (boxes, areas, uncompressed run-length masks)
//! ```

use std::io::Cursor;
use std::path::Path;

use image::GrayImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use serde::Serialize;
use serde_json::{Value, json};

use crate::files::error::WriteError;
use crate::files::output::{Layout, Output, Part};
use crate::scenes::generate::generate;
use crate::scenes::objects::{class_name, classes};
use crate::scenes::scene::{Question, Scene, SceneError, SceneObject, SceneOptions};

static LAYOUT: Layout = Layout {
    folders: &["images", "masks"],
    seals: &["scenes.jsonl", "annotations.json"],
    leaves: is_numbered,
    durable: false,
};

/// Whether a name is that of a picture of a scene.
fn is_numbered(name: &str) -> bool {
    let file = name.strip_prefix("images/").or_else(|| name.strip_prefix("masks/"));
    let number = file.and_then(|file| file.strip_suffix(".png"));
    number.is_some_and(|digits| digits.parse::<u64>().is_ok_and(|n| format!("{n:06}") == digits))
}

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

/// Writes scenes 0 to `count` of the world `seed` into `dir`, on all cores, and calls `progress` with the number
/// done so far. The files are the same whatever the number of cores.
///
/// # Errors
/// [`SceneError`]; then the folder is as it was.
pub fn write_folder(
    dir: &Path,
    seed: u64,
    count: u64,
    options: &SceneOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<(), SceneError> {
    options.check()?;
    let output = Output::open(dir, &LAYOUT)?;
    let out = &output;
    let mut lines = out.create("scenes.jsonl")?;
    let mut coco = Coco::create(out.create("annotations.json")?, options.size)?;
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
            lines.put(written.line.as_bytes())?;
            coco.add(&written)?;
        }
        start = end;
        progress(end);
    }
    lines.finish()?;
    coco.finish()?;
    Ok(output.commit()?)
}

fn write_scene(out: &Output, seed: u64, index: u64, options: &SceneOptions) -> Result<Written, SceneError> {
    let scene = generate(seed, index, options);
    let file = format!("{index:06}.png");
    write_png(out, &format!("images/{file}"), &scene.image)?;
    write_png(out, &format!("masks/{file}"), &scene.mask)?;
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

fn write_png<P, C>(out: &Output, name: &str, picture: &image::ImageBuffer<P, C>) -> Result<(), SceneError>
where
    P: image::PixelWithColorType<Subpixel = u8>,
    C: std::ops::Deref<Target = [u8]>,
{
    let mut png = Cursor::new(Vec::new());
    let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Sub);
    picture
        .write_with_encoder(encoder)
        .map_err(|source| SceneError::Picture { path: out.place(name), source })?;
    Ok(out.write(name, png.get_ref())?)
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

/// annotations.json, written as it grows: only the list of pictures is kept, so that large sets fit in memory.
struct Coco<'a> {
    output: Part<'a>,
    size: u32,
    images: Vec<Value>,
    annotations: u64,
}

impl<'a> Coco<'a> {
    fn create(mut output: Part<'a>, size: u32) -> Result<Self, WriteError> {
        let categories: Vec<Value> =
            (0..classes().len()).map(|class| json!({ "id": class + 1, "name": class_name(class) })).collect();
        output.put(format!("{{\"categories\":{},\n\"annotations\":[", json!(categories)).as_bytes())?;
        Ok(Coco { output, size, images: Vec::new(), annotations: 0 })
    }

    fn add(&mut self, written: &Written) -> Result<(), WriteError> {
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
            self.output.put(format!("{separator}{annotation}").as_bytes())?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), WriteError> {
        let images = json!(self.images);
        self.output.put(format!("\n],\n\"images\":{images}}}\n").as_bytes())?;
        self.output.finish()
    }
}
