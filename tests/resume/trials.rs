//! Random interventions, each resumed and run from scratch.

use super::*;

/// Random interventions on one engine and image.
pub struct Trials<'a> {
    engine: &'a Engine,
    seen: &'a Seen,
    rng: ChaCha8Rng,
    n_visual: usize,
    /// Rows and columns of the grid of patches.
    grid: (usize, usize),
    n_layers: usize,
    donors: Vec<String>,
    baselines: BTreeMap<(usize, usize, bool), Baseline>,
    /// What was compared, by the run that it started from.
    tried: BTreeMap<(usize, usize, bool), Vec<Intervention>>,
    /// Compared, of these unchanged by the intervention; refused.
    counts: [usize; 3],
}

const PROMPTS: [(&str, usize); 3] = [(bundled::PROMPT, 7), (LEFT, 6), (SHORT, 5)];

impl<'a> Trials<'a> {
    pub fn new(engine: &'a Engine, seen: &'a Seen, grid: (usize, usize), donors: Vec<String>) -> Self {
        Trials {
            engine,
            seen,
            rng: ChaCha8Rng::seed_from_u64(7),
            n_visual: seen.embeds.dims()[0],
            grid,
            n_layers: engine.info.n_layers,
            donors,
            baselines: BTreeMap::new(),
            tried: BTreeMap::new(),
            counts: [0; 3],
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn pick(&mut self, from: &[&str]) -> String {
        from[self.rng.random_range(0..from.len())].to_string()
    }

    /// A range within `0..n`, as written.
    fn range(&mut self, n: usize) -> String {
        let a = self.rng.random_range(0..n);
        match self.rng.random_range(0..4) {
            0 => format!("{a}"),
            1 => format!("{a}-"),
            2 => format!("{a}~{}", self.rng.random_range(0..3)),
            _ => format!("{a}-{}", self.rng.random_range(a..n)),
        }
    }

    fn numbers(&mut self, n: usize) -> String {
        let range = self.range(n);
        match self.rng.random_range(0..5) {
            0 => "all".to_string(),
            1 => format!("!{range}"),
            2 => format!("{range},{}", self.range(n)),
            _ => range,
        }
    }

    fn cells(&mut self) -> String {
        let mut one = |n: usize| {
            let a = self.rng.random_range(0..n);
            format!("{a}-{}", self.rng.random_range(a..n))
        };
        let (rows, cols) = self.grid;
        format!("{}:{}", one(rows), one(cols))
    }

    /// Some visual tokens.
    fn patches(&mut self) -> String {
        let n = self.n_visual;
        let term = match self.rng.random_range(0..7) {
            0 => format!("visual[{}]", self.range(n)),
            1 => format!("visual[{}]", self.cells()),
            2 => format!("random[{}]", self.range(n)),
            3 => "object".to_string(),
            4 => "lastrow".to_string(),
            5 => format!("visual[{},{}]", self.range(n), self.cells()),
            _ => "visual".to_string(),
        };
        if self.chance(4) { format!("{term}~{}", self.rng.random_range(1..3)) } else { term }
    }

    fn term(&mut self) -> String {
        match self.rng.random_range(0..10) {
            0..5 => self.patches(),
            5 => self.pick(&["bos", "system", "question", "question[0-1]", "whole", "markers", "register"]),
            6 => self.pick(&["last", "decode", "answer[0-1]", "decode[0]", "answer[1]"]),
            7 => format!("pos[{}]", self.range(self.n_visual + 4)),
            8 => self.pick(&["all - bos", "all - pos[0-1]", "pos[3-] - last", "all"]),
            _ => "answer".to_string(),
        }
    }

    fn set(&mut self) -> String {
        let mut set = self.term();
        while self.chance(4) {
            set += if self.chance(3) { " - " } else { " + " };
            set += &self.term();
        }
        set
    }

    fn intervention(&mut self) -> Intervention {
        let knockout = |t: &mut Self| {
            let query = if t.chance(2) { "answer".to_string() } else { t.set() };
            let (key, layers) = (t.set(), t.numbers(t.n_layers));
            let heads = if t.chance(2) { format!(" # {}", t.numbers(4)) } else { String::new() };
            format!("{query} -> {key} @ {layers}{heads}").parse().unwrap()
        };
        let ablation = |t: &mut Self| {
            let fill = match t.rng.random_range(0..4) {
                0 => "mean".to_string(),
                1 => "zero".to_string(),
                2 => "noise".to_string(),
                _ => t.donors[t.rng.random_range(0..t.donors.len())].clone(),
            };
            let tokens = t.patches();
            let tokens = if t.chance(4) { format!("{tokens} - lastrow") } else { tokens };
            let taken = if t.engine.info.deepstack > 0 && t.chance(2) { " & deepstack" } else { "" };
            format!("{tokens}{taken} = {fill}").parse().unwrap()
        };
        let (cuts, ablations) = (self.rng.random_range(1..=3), [0, 0, 1, 1, 2][self.rng.random_range(0..5)]);
        Intervention {
            knockouts: (0..cuts).map(|_| knockout(self)).collect(),
            ablations: (0..ablations).map(|_| ablation(self)).collect(),
        }
    }

    fn trial(&mut self) {
        let prompt = self.rng.random_range(0..PROMPTS.len());
        let (every_nth, sampled) = (self.rng.random_range(1..=3), self.chance(2));
        let intervention = self.intervention();
        let (engine, seen) = (self.engine, self.seen);
        let baseline = self.baselines.entry((prompt, every_nth, sampled)).or_insert_with(|| {
            let (text, max_new) = PROMPTS[prompt];
            let sampling = sampled.then_some(Sampling { temperature: 1.5, top_p: 0.95 });
            let spec = Experiment { sampling, seed: 3, ..ask(text, max_new) };
            keep(engine, seen, &every(spec, every_nth)).unwrap()
        });
        let spec = with(&baseline.experiment, &intervention);
        let written = serde_json::to_string(&spec).unwrap();
        let resumed = intervene(engine, seen, baseline, &intervention);
        let scratch = keep(engine, seen, &spec);
        let (resumed, scratch) = match (resumed, scratch) {
            (Ok(resumed), Ok(scratch)) => (resumed, scratch),
            (Err(resumed), Err(scratch)) => {
                assert_eq!(resumed.to_string(), scratch.to_string(), "{written}");
                self.counts[2] += 1;
                return;
            }
            (resumed, scratch) => {
                panic!("{written}: resumed {:?}, scratch {:?}", resumed.err(), scratch.err())
            }
        };
        self.counts[0] += 1;
        self.tried.entry((prompt, every_nth, sampled)).or_default().push(intervention.clone());
        self.counts[1] += usize::from(resumed.start.is_none());

        same(&resumed.free, &scratch.trace, &written);
        let forced = Experiment { forced_answer: Some(baseline.trace.ids()), ..spec };
        let mut forced = match run(engine, seen, &forced) {
            Ok(forced) => forced,
            // Rows past the baseline's answer are there for the model's own answer only.
            Err(e) if e.to_string().contains("does not exist") => return,
            Err(e) => panic!("{written}: {e}"),
        };
        if resumed.start.is_none() {
            // The stored answer itself, which ended by its own will.
            forced.stop = baseline.trace.stop;
        }
        same(&resumed.forced, &forced, &written);
        for (effect, (before, after)) in
            resumed.effects.iter().zip(baseline.trace.answer.iter().zip(&forced.answer))
        {
            assert_eq!(effect.baseline, before.logprob, "{written}");
            assert_eq!(effect.logprob, after.logprob, "{written}");
        }
        assert_eq!(resumed.effects.len(), forced.answer.len(), "{written}");
    }

    /// What was tried, all that starts from one run scored together, and some of it at a time.
    fn together(&self) {
        let cancel = Cancel::default();
        for (key, tried) in &self.tried {
            let (baseline, images) = (&self.baselines[key], [self.seen]);
            let one = |i| resume::effects(self.engine, baseline, i, &images, &cancel).unwrap();
            let alone: Vec<Vec<Effect>> = tried.iter().map(one).collect();
            let mut heard = Vec::new();
            let all = many::score(self.engine, baseline, tried, &images, &cancel, &mut |n| heard.push(n));
            for (number, (alone, scored)) in alone.iter().zip(all.unwrap()).enumerate() {
                let alone: Vec<_> = alone.iter().map(|e| (e.logprob, e.delta, e.rank)).collect();
                let scored: Vec<_> = scored.iter().map(|s| (s.logprob, s.delta, s.rank)).collect();
                assert_eq!(alone, scored, "{}", tried[number]);
            }
            assert!(heard.last().is_none_or(|&n| n == tried.len()), "{heard:?} of {}", tried.len());
        }
    }

    pub fn run(mut self, default: usize) {
        let specs = std::env::var("SIGHTLINE_SPECS").map_or(default, |n| n.parse().unwrap());
        while self.counts[0] < specs {
            self.trial();
        }
        self.together();
        let [compared, unchanged, refused] = self.counts;
        println!(
            "{}: {compared} random interventions, all the same to the last bit ({unchanged} touch nothing), \
             {refused} more refused alike",
            self.engine.info.family,
        );
        assert!(refused < compared, "most of what is tried must be compared, not refused");
        assert!((compared - unchanged) * 2 > compared, "most of it must touch something");
    }
}
