//! Several passes through the decoder's weights at once: rows that follow one cache, each pass with cuts of its own.
//!
//! The rows of all passes stand under each other wherever a row is alone with the weights (norms, products, MLP), and
//! each pass attends by itself, to the first keys of the cache and its own rows. To the bit what each pass gives alone;
//! the weights are read once for all. Residuals are `[rows, width]`. Knows passes by number; not what they are for.

use std::ops::Range;

use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use crate::{
    model::{
        cpu,
        decoder::{Decoder, read_of},
        hooks::Hooks,
        kv_cache::KvCache,
        rotary::{Position, Rotary},
    },
    progress::{Cancel, Cancelled},
};

/// One of several passes.
#[derive(Debug)]
pub struct Pass {
    /// The first block that it runs; all above follow.
    pub layer: usize,
    /// Keys of the cache that its rows follow.
    pub first: usize,
    /// `[rows, width]`, float32: the input of that block.
    pub resid: Tensor<2>,
    /// One a row.
    pub positions: Vec<Position>,
    /// Added to the output of a layer: its number, and `[rows, width]`.
    pub added: Vec<(usize, Tensor<2>)>,
    /// What it blocks; nothing is recorded.
    pub hooks: Hooks,
    /// How many of its last rows to give the output of.
    pub read: usize,
}

/// What all passes give.
#[derive(Debug)]
pub struct Together {
    /// One a pass, `[read rows, width]`: output of the last block, before the final norm.
    pub resid: Vec<Tensor<2>>,
    /// The largest value after the softmax on any blocked pair, `[1]` each.
    pub blocked_mass: Vec<Tensor<1>>,
    /// By layer: the largest magnitude among new keys and values, `[1]`; only where the cache is of less precision
    /// than float32.
    pub largest: Vec<(usize, Tensor<1>)>,
}

/// The passes that run, in order, and their rows under each other.
#[derive(Default)]
struct Running {
    /// Number of passes.
    n: usize,
    /// Where each one's rows are.
    rows: Vec<Range<usize>>,
    positions: Vec<Position>,
    x: Option<Tensor<2>>,
}

impl Running {
    /// Lets passes begin: they stand behind those that run.
    fn join(&mut self, passes: &[Pass]) {
        let mut all: Vec<Tensor<2>> = self.x.take().into_iter().collect();
        for pass in passes {
            let begin = self.positions.len();
            self.positions.extend_from_slice(&pass.positions);
            self.rows.push(begin..self.positions.len());
            all.push(pass.resid.clone());
        }
        self.n += passes.len();
        self.x = (!all.is_empty()).then(|| Tensor::cat(all, 0));
    }
}

impl Decoder {
    /// Runs passes, which are in the order of their first blocks; the cache stays as it is.
    ///
    /// # Errors
    /// [`Cancelled`] between layers.
    pub fn forward_together(
        &self,
        passes: &[Pass],
        cache: &KvCache,
        cancel: &Cancel,
    ) -> Result<Together, Cancelled> {
        match passes.first() {
            Some(first) => cpu::on_pool(&first.resid, || self.run_together(passes, cache, cancel)),
            None => Ok(Together { resid: Vec::new(), blocked_mass: Vec::new(), largest: Vec::new() }),
        }
    }

    fn run_together(&self, passes: &[Pass], cache: &KvCache, cancel: &Cancel) -> Result<Together, Cancelled> {
        let mut together = Together { resid: Vec::new(), blocked_mass: Vec::new(), largest: Vec::new() };
        let mut running = Running::default();
        let mut rotary = None;
        let layers = self.all_layers();
        let last = layers.end.saturating_sub(1);
        for layer in layers {
            cancel.check()?;
            let begin = passes[running.n..].iter().take_while(|pass| pass.layer <= layer).count();
            if begin > 0 {
                running.join(&passes[running.n..running.n + begin]);
                rotary = Some(Rotary::new(&running.positions, self.config(), self.device()));
            }
            let (Some(x), Some(rotary)) = (running.x.take(), &rotary) else { continue };
            let here = &passes[..running.n];
            let [q, k, v] = self.projected(layer, x.clone(), rotary);
            if self.cache_dtype() != DType::F32 {
                let both = [&k, &v].map(|t| t.clone().max_abs());
                together.largest.push((layer, Tensor::cat(both.into(), 0).max()));
            }
            let attend = |(pass, rows): (&Pass, &Range<usize>)| {
                let [q, k, v] = [&q, &k, &v].map(|t| t.clone().narrow(1, rows.start, rows.len()));
                let (k, v) = cache.followed(layer, pass.first, k, v, self.cache_dtype());
                self.attended(layer, [q, k, v], &pass.hooks)
            };
            // Passes are shared out among the cores: of one alone the few rows would not fill them. A device that is not
            // the CPU takes its work from one thread.
            let attended: Vec<_> = match cpu::is_plain(&x) {
                true => here.par_iter().zip(&running.rows).map(attend).collect(),
                false => here.iter().zip(&running.rows).map(attend).collect(),
            };
            let (mut mixed, mut left) = (Vec::with_capacity(here.len()), Vec::new());
            for (rows, mass) in attended {
                mixed.push(rows);
                left.extend(mass);
            }
            together.blocked_mass.extend(left);
            let x = match layer == last {
                false => self.finished(layer, x, Tensor::cat(mixed, 0)),
                true => {
                    let kept =
                        running.rows.iter().zip(here).map(|(rows, pass)| rows.end - pass.read..rows.end);
                    let kept: Vec<Range<usize>> = kept.collect();
                    let ends = kept.iter().map(|rows| x.clone().narrow(0, rows.start, rows.len())).collect();
                    let mixed = mixed.into_iter().zip(here).map(|(rows, pass)| read_of(rows, pass.read));
                    self.finished(layer, Tensor::cat(ends, 0), Tensor::cat(mixed.collect(), 0))
                }
            };
            running.x = Some(self.with_added(layer, last, x, &running.rows, here));
        }
        let Some(x) = running.x else { return Ok(together) };
        let mut from = 0;
        for pass in passes {
            together.resid.push(x.clone().narrow(0, from, pass.read));
            from += pass.read;
        }
        Ok(together)
    }

    /// `x` with what passes add after a layer.
    fn with_added(
        &self,
        layer: usize,
        last: usize,
        x: Tensor<2>,
        rows: &[Range<usize>],
        passes: &[Pass],
    ) -> Tensor<2> {
        let of = |pass: &Pass| pass.added.iter().find(|(n, _)| *n == layer).map(|(_, added)| added.clone());
        if passes.iter().all(|pass| of(pass).is_none()) {
            return x;
        }
        let width = x.dims()[1];
        let part = |(pass, rows): (&Pass, &Range<usize>)| {
            let n = if layer == last { pass.read } else { rows.len() };
            of(pass).map_or_else(|| Tensor::zeros([n, width], self.device()), |added| read_of(added, n))
        };
        x + Tensor::cat(passes.iter().zip(rows).map(part).collect(), 0)
    }
}
