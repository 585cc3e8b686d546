//! Seeing: an image as the model's views, encoded once, and the prompt that is built around it.
//!
//! What needs no weights is a [`ModelFolder`]'s: [`Framed`] is an image before it is encoded. Visual embeddings
//! are `[visual tokens, width]`, in prompt order. Knows images and prompts; runs nothing but the encoder.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use burn::tensor::Tensor;
use image::RgbImage;

use crate::{
    engine::{
        decoding::{DecodingError, Rows, host, is_finite, place_rows},
        error::RunError,
        folder::ModelFolder,
        load::Engine,
        place::Place,
    },
    image::{mask::Mask, open, plan::Processed},
    model::{encoder::Pixels, hooks::Watch, nn::index},
    progress::{Cancel, Progress, Stage},
    prompt::build::Prompt,
    spec::{
        picture::{ImageSource, ObjectMask, Picture, share},
        sets::SetError,
        span::Span,
        turn::Turn,
    },
    trace::{geometry::Geometry, tokens::visual},
};

/// An image that is opened and cut into views, and not encoded yet.
#[derive(Clone, Debug)]
pub struct Framed {
    /// Upright, on white.
    pub pixels: RgbImage,
    /// Its views.
    pub processed: Processed,
    /// `[visual tokens]`: whether a token's patch belongs to the object that the user marked.
    pub object: Option<Vec<bool>>,
}

/// An image as the model sees it, encoded once.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its views, and what every visual token shows.
    pub geometry: Geometry,
    /// What was done to it, in words.
    pub description: String,
    /// `[visual tokens, width]`: all views, in order.
    pub embeds: Tensor<2>,
    /// What the decoder adds at these tokens after a layer: its number, and `[visual tokens, width]`.
    pub added: Vec<(usize, Tensor<2>)>,
    /// How long encoder and projector took.
    pub encode_time: Duration,
    /// `[visual tokens]`: whether a token's patch belongs to the object that the user marked.
    pub object: Option<Vec<bool>>,
}

impl Seen {
    /// Marks the object that a file shows.
    ///
    /// # Errors
    /// [`RunError::Mask`], as [`Seen::mark`]; also when it cannot be read.
    pub fn mark_from(&mut self, object: &ObjectMask) -> Result<(), RunError> {
        self.object = Some(marked_from(&self.geometry, object)?);
        Ok(())
    }

    /// Marks the object that a mask of the upright source image shows.
    ///
    /// # Errors
    /// [`RunError::Mask`] when the mask has another size, does not tell its values apart where one is asked
    /// for, or touches no patch; also when the share is none.
    pub fn mark(&mut self, mask: &Mask, object: &ObjectMask) -> Result<(), RunError> {
        self.object = Some(marked(&self.geometry, mask, object)?);
        Ok(())
    }
}

/// Which visual tokens show the object of a mask's file.
fn marked_from(geometry: &Geometry, object: &ObjectMask) -> Result<Vec<bool>, RunError> {
    marked(geometry, &mask_of(object)?, object)
}

/// Reads the mask of an object.
///
/// # Errors
/// [`RunError::Mask`].
pub fn mask_of(object: &ObjectMask) -> Result<Mask, RunError> {
    let fail = |why: String| RunError::Mask { file: object.file.clone(), why };
    Mask::open(&object.file).map_err(|e| fail(format!("cannot be read ({e})")))
}

/// `[visual tokens]`: which of them show the object of a mask of the upright source image.
///
/// # Errors
/// As [`Seen::mark`].
pub fn marked(geometry: &Geometry, mask: &Mask, object: &ObjectMask) -> Result<Vec<bool>, RunError> {
    let fail = |why: String| RunError::Mask { file: object.file.clone(), why };
    share(object.share).map_err(fail)?;
    let (found, expected) = (mask.size(), geometry.source);
    if found != expected {
        let ((w, h), (ew, eh)) = (found, expected);
        return Err(fail(format!("the mask is {w}x{h} pixels, expected {ew}x{eh} like the upright image")));
    }
    if let (Some(value), Err(why)) = (object.value, mask.exact()) {
        return Err(fail(format!(
            "pixels of value {value} cannot be told from others: {why}. Save the mask as a greyscale PNG of 8 or \
             16 bits, or leave the value out: then all that is marked is the object"
        )));
    }
    let belongs = |covered: f32| covered > object.share || covered >= 1.0;
    let patches = geometry.patches();
    let members: Vec<bool> =
        patches.iter().map(|patch| belongs(mask.covered(patch.rect, object.value))).collect();
    if !members.contains(&true) {
        let pixel = object.value.map_or("above 0".to_string(), |v| v.to_string());
        return Err(fail(format!(
            "no patch is covered by more than {} by pixels of value {pixel}: is it the right mask and value?",
            object.share
        )));
    }
    Ok(members)
}

impl ModelFolder {
    /// An image's views, as the model's processor makes them.
    ///
    /// # Errors
    /// [`RunError::Image`]; [`RunError::Spec`] when processor and encoder disagree on the view's side.
    pub fn process(&self, image: &RgbImage) -> Result<Processed, RunError> {
        let processed = self.processor.process(image)?;
        let Some(side) = self.family.side() else { return Ok(processed) };
        match processed.inputs.iter().find(|input| input.size != (side, side)) {
            None => Ok(processed),
            Some(input) => Err(RunError::Spec {
                what: "the tile side that preprocessor_config.json makes",
                found: input.size.0 as usize,
                expected: format!("{side}, the encoder's image_size in config.json"),
            }),
        }
    }

    /// Opens and processes an image, and marks the object in it.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn frame(&self, picture: &Picture) -> Result<Framed, RunError> {
        let pixels = open::read(&picture.image)?;
        let processed = self.process(&pixels)?;
        let object = picture.object.as_ref().map(|o| marked_from(&processed.geometry, o)).transpose()?;
        Ok(Framed { pixels, processed, object })
    }

    /// Refuses a layer of the vision encoder that there is not.
    ///
    /// # Errors
    /// [`RunError::Choice`].
    pub fn check_vision_layer(&self, layer: usize) -> Result<(), RunError> {
        let len = self.family.config().vision.n_layers;
        if layer < len { Ok(()) } else { Err(no_vision_layer(layer, len)) }
    }

    /// The prompt of a conversation about images, each of which has its place in the turns.
    ///
    /// # Errors
    /// [`RunError::Prompt`], or [`RunError::TooLong`]; [`RunError::Spec`] for a token that the model lacks.
    pub fn prompt(&self, turns: &[Turn], images: &[&Geometry]) -> Result<Prompt, RunError> {
        let pieces: Vec<_> = images.iter().map(|image| self.family.layout(image)).collect();
        let prompt = self.prompts.build(turns, &pieces)?;
        let vocabulary = self.text().vocabulary;
        if let Some(token) = prompt.tokens.iter().find(|token| token.id as usize >= vocabulary) {
            let what = "a token of the prompt, which the model has no embedding for,";
            let expected = format!("below the vocabulary's {vocabulary}");
            return Err(RunError::Spec { what, found: token.id as usize, expected });
        }
        let (found, context) = (prompt.tokens.len(), self.text().context);
        if found >= context {
            let visual = prompt.tokens.iter().filter(|t| t.span == Span::Visual).count();
            return Err(RunError::TooLong { found, visual, context });
        }
        Ok(prompt)
    }
}

impl Engine {
    /// Encodes a processed image. `tell` hears of every view done.
    ///
    /// # Errors
    /// [`RunError::Decoding`] when cancelled, when the device fails, or when the encoder gives what is no number.
    pub fn see(
        &self,
        processed: &Processed,
        cancel: &Cancel,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Seen, RunError> {
        let start = Instant::now();
        let total = processed.inputs.len();
        let (mut embeds, mut added) = (Vec::with_capacity(total), Vec::new());
        tell(Progress::of(Stage::Encode, 0, total));
        for view in 0..total {
            let encoded = self
                .vlm
                .encoder
                .encode(pixels(processed, view), Watch::Nothing, cancel)
                .map_err(DecodingError::from)?;
            embeds.push(encoded.tokens);
            added.push(encoded.added);
            tell(Progress::of(Stage::Encode, view + 1, total));
        }
        let embeds = Tensor::cat(embeds, 0);
        let added = joined(added);
        for tokens in std::iter::once(&embeds).chain(added.iter().map(|(_, features)| features)) {
            if !is_finite(tokens)? {
                return Err(self.blame(processed, cancel)?.not_finite(&self.vlm).into());
            }
        }
        self.vlm.device.sync().map_err(|e| DecodingError::Device(e.to_string()))?;
        Ok(Seen {
            geometry: processed.geometry.clone(),
            description: processed.describe(),
            embeds,
            added,
            encode_time: start.elapsed(),
            object: None,
        })
    }

    /// Where in the encoder the first numbers arise that are none: a sound image is looked at behind the projector
    /// alone, and one that looks broken is encoded again with every layer watched.
    fn blame(&self, processed: &Processed, cancel: &Cancel) -> Result<Place, DecodingError> {
        for view in 0..processed.inputs.len() {
            let out = self.vlm.encoder.encode(pixels(processed, view), Watch::States, cancel)?;
            if is_finite(&out.features)? {
                // What is added after decoder layers is a projector's too.
                let mut given = std::iter::once(&out.tokens).chain(out.added.iter().map(|(_, t)| t));
                match given.try_fold(true, |all, tokens| Ok::<_, DecodingError>(all && is_finite(tokens)?))? {
                    true => continue,
                    false => return Ok(Place::Projector),
                }
            }
            let hidden = out.recorded.map(|recorded| recorded.hidden).unwrap_or_default();
            for (n, hidden) in hidden.iter().enumerate() {
                if !is_finite(hidden)? {
                    return Ok(n.checked_sub(1).map_or(Place::Patches, Place::VisionOutput));
                }
            }
            return Ok(Place::Vision);
        }
        Ok(Place::Projector)
    }

    /// Opens, processes and encodes an image, and marks the object in it.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn look(
        &self,
        picture: &Picture,
        cancel: &Cancel,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(RgbImage, Seen), RunError> {
        tell(Progress::begun(Stage::Open));
        let framed = self.folder.frame(picture)?;
        let seen = self.see(&framed.processed, cancel, tell)?;
        Ok((framed.pixels, Seen { object: framed.object, ..seen }))
    }

    /// [`Engine::look`] at a file in which nothing is marked.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn look_at(&self, file: impl Into<PathBuf>, cancel: &Cancel) -> Result<Seen, RunError> {
        let picture = Picture { image: ImageSource::File(file.into()), object: None };
        Ok(self.look(&picture, cancel, &mut |_| {})?.1)
    }

    /// The vision encoder's attention in one layer, for one view of an image: its shape, `[heads, tokens,
    /// tokens]`, and the values after the softmax.
    ///
    /// # Errors
    /// [`RunError::Choice`] for a layer that does not exist.
    pub fn vision_attention(
        &self,
        processed: &Processed,
        view: usize,
        layer: usize,
        cancel: &Cancel,
    ) -> Result<([usize; 3], Vec<f32>), RunError> {
        let encoder = &self.vlm.encoder;
        let out = encoder.encode(pixels(processed, view), Watch::Layer(layer), cancel);
        let recorded = out.map_err(DecodingError::from)?.recorded;
        let pattern = recorded.and_then(|r| r.pattern.into_iter().next());
        let pattern = pattern.ok_or_else(|| no_vision_layer(layer, encoder.n_layers()))?;
        let (shape, values) = (pattern.dims(), host(pattern)?);
        Place::VisionLayer(layer).check(&self.vlm, &values)?;
        Ok((shape, values))
    }

    /// The prompt of a conversation about images, each of which has its place in the turns.
    ///
    /// # Errors
    /// [`RunError::Prompt`], or [`RunError::TooLong`]; [`RunError::Spec`] for a token that the model lacks.
    pub fn prompt(&self, turns: &[Turn], images: &[&Seen]) -> Result<Prompt, RunError> {
        let geometries: Vec<&Geometry> = images.iter().map(|seen| &seen.geometry).collect();
        self.folder.prompt(turns, &geometries)
    }

    /// The rows of a prompt: token embeddings with the visual ones filled in, each at its position.
    pub(crate) fn rows(&self, prompt: &Prompt, images: &[&Seen]) -> Rows {
        let geometries: Vec<Geometry> = images.iter().map(|seen| seen.geometry.clone()).collect();
        let positions = self.vlm.family.positions(&prompt.tokens, &geometries);
        let resid = self.vlm.decoder.embed(&prompt.ids());
        if images.is_empty() {
            return Rows::text(resid, positions);
        }
        let places = visual(&prompt.tokens);
        let width = resid.dims()[1];
        let nothing = || Tensor::zeros([prompt.len(), width], &self.vlm.device);
        let added = joined(images.iter().map(|seen| seen.added.clone()).collect());
        Rows {
            resid: place_rows(resid, &places, all_embeds(images)),
            positions,
            added: added.into_iter().map(|(l, t)| (l, place_rows(nothing(), &places, t))).collect(),
        }
    }
}

fn no_vision_layer(found: usize, len: usize) -> RunError {
    let source = SetError::OutOfRange { what: "vision layer".to_string(), found, len };
    RunError::Choice { what: "the vision encoder's attention".to_string(), source }
}

/// `[visual tokens, width]` of all images of a prompt.
pub(super) fn all_embeds(images: &[&Seen]) -> Tensor<2> {
    Tensor::cat(images.iter().map(|seen| seen.embeds.clone()).collect(), 0)
}

/// Some rows of `[rows, width]`.
pub(super) fn rows_of(from: &Tensor<2>, places: &[usize]) -> Tensor<2> {
    from.clone().select(0, index(places, &from.device()))
}

fn pixels(processed: &Processed, view: usize) -> Pixels<'_> {
    let input = &processed.inputs[view];
    Pixels { values: &input.pixels, size: input.size, grid: processed.geometry.views[view].grid }
}

/// Layer by layer, the parts of several views or images one behind the other.
pub(crate) fn joined(parts: Vec<Vec<(usize, Tensor<2>)>>) -> Vec<(usize, Tensor<2>)> {
    let mut layers: std::collections::BTreeMap<usize, Vec<Tensor<2>>> = Default::default();
    for (layer, tensor) in parts.into_iter().flatten() {
        layers.entry(layer).or_default().push(tensor);
    }
    layers.into_iter().map(|(layer, parts)| (layer, Tensor::cat(parts, 0))).collect()
}
