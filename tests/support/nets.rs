//! resnet9, resnet18 and resnet34 on the f64 reference, their parameters by name, and the optimiser and
//! schedule in f64.

use super::reference::{BatchStatistics, Named, Statistics, Tape, Tensor, Var};

/// One of the three networks at a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// resnet9, resnet18 or resnet34.
    pub name: &'static str,
    /// Channels of the stem.
    pub width: usize,
}

/// Which statistics the batch norms use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The batch's; running statistics update.
    Train,
    /// The running ones.
    Eval,
    /// Each sample's own.
    Sample,
}

/// A forward pass, ready to go backward.
pub struct Pass {
    tape: Tape,
    leaves: Vec<(String, Var)>,
    loss_var: Var,
    /// (N, 10).
    pub logits: Tensor,
    /// Summed over the batch.
    pub loss: f64,
    /// Samples whose label has the largest logit.
    pub correct: usize,
    /// `*.running_mean` and `*.running_var` after the pass (`Mode::Train` only, else empty).
    pub running: Named,
}

impl Pass {
    /// The gradient of the summed loss by every parameter.
    pub fn gradients(&self) -> Named {
        let found = self.tape.backward(self.loss_var, &Tensor::new(&[1], vec![1.0]));
        self.leaves.iter().map(|(name, var)| (name.clone(), found.of(*var).clone())).collect()
    }
}

impl Net {
    /// Blocks in each stage, or none for resnet9.
    fn stages(&self) -> Option<[usize; 4]> {
        match self.name {
            "resnet9" => None,
            "resnet18" => Some([2, 2, 2, 2]),
            "resnet34" => Some([3, 4, 6, 3]),
            other => panic!("no net {other}"),
        }
    }

    /// Names and PyTorch shapes of the parameters in canonical order.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let mut list = Vec::new();
        let mut conv_bn = |conv: String, bn: String, k: usize, c: usize, r: usize| {
            list.push((conv + ".weight", vec![k, c, r, r]));
            list.push((format!("{bn}.weight"), vec![k]));
            list.push((bn + ".bias", vec![k]));
        };
        let w = self.width;
        let Some(stages) = self.stages() else {
            for (name, k, c) in [
                ("prep", w, 3),
                ("layer1", 2 * w, w),
                ("layer1_residual_res1", 2 * w, 2 * w),
                ("layer1_residual_res2", 2 * w, 2 * w),
                ("layer2", 4 * w, 2 * w),
                ("layer3", 8 * w, 4 * w),
                ("layer3_residual_res1", 8 * w, 8 * w),
                ("layer3_residual_res2", 8 * w, 8 * w),
            ] {
                conv_bn(format!("{name}_conv"), format!("{name}_bn"), k, c, 3);
            }
            list.push(("linear.weight".into(), vec![10, 8 * w]));
            return list;
        };
        conv_bn("conv1".into(), "bn1".into(), w, 3, 3);
        for (stage, blocks) in stages.into_iter().enumerate() {
            let k = w << stage;
            for block in 0..blocks {
                let prefix = format!("layer{}.{block}", stage + 1);
                let narrows = stage > 0 && block == 0;
                let c = if narrows { k / 2 } else { k };
                conv_bn(format!("{prefix}.conv1"), format!("{prefix}.bn1"), k, c, 3);
                conv_bn(format!("{prefix}.conv2"), format!("{prefix}.bn2"), k, k, 3);
                if narrows {
                    conv_bn(format!("{prefix}.downsample.0"), format!("{prefix}.downsample.1"), k, c, 1);
                }
            }
        }
        list.push(("fc.weight".into(), vec![10, 8 * w]));
        list.push(("fc.bias".into(), vec![10]));
        list
    }

    /// Runs `images` (N, 3, 32, 32) through the net whose parameters and running statistics are `state`.
    pub fn forward(&self, state: &Named, images: &Tensor, labels: &[usize], mode: Mode) -> Pass {
        self.forward_smoothed(state, images, labels, mode, 0.0)
    }

    /// `forward` with label smoothing.
    pub fn forward_smoothed(
        &self,
        state: &Named,
        images: &Tensor,
        labels: &[usize],
        mode: Mode,
        smoothing: f64,
    ) -> Pass {
        let (tape, leaves, running) = (Tape::default(), Vec::new(), Named::new());
        let mut walk = Walk { tape, leaves, running, state, mode };
        let x = walk.tape.leaf(images);
        let logits = match self.stages() {
            None => walk.resnet9(x),
            Some(stages) => walk.resnet(x, stages),
        };
        let (loss_var, correct) = walk.tape.cross_entropy(logits, labels, smoothing);
        let (logits, loss) = (walk.tape.value(logits).clone(), walk.tape.value(loss_var).data[0]);
        Pass { tape: walk.tape, leaves: walk.leaves, loss_var, logits, loss, correct, running: walk.running }
    }
}

/// A net being run.
struct Walk<'a> {
    tape: Tape,
    leaves: Vec<(String, Var)>,
    running: Named,
    state: &'a Named,
    mode: Mode,
}

impl Walk<'_> {
    fn state(&self, name: &str) -> &Tensor {
        self.state.get(name).unwrap_or_else(|| panic!("no {name} in the net's state"))
    }

    fn parameter(&mut self, name: String) -> Var {
        let value = self.state(&name).clone();
        let var = self.tape.leaf(&value);
        self.leaves.push((name, var));
        var
    }

    fn conv(&mut self, name: &str, x: Var, stride: usize, pad: usize) -> Var {
        let w = self.parameter(format!("{name}.weight"));
        self.tape.conv2d(x, w, stride, pad)
    }

    fn bn(&mut self, name: &str, x: Var) -> Var {
        let (w, b) = (self.parameter(format!("{name}.weight")), self.parameter(format!("{name}.bias")));
        let (mean_name, var_name) = (format!("{name}.running_mean"), format!("{name}.running_var"));
        let (y, found) = match self.mode {
            Mode::Train => self.tape.batch_norm(x, w, b, Statistics::Batch),
            Mode::Sample => self.tape.batch_norm(x, w, b, Statistics::Sample),
            Mode::Eval => {
                let (mean, var) = (self.state(&mean_name).clone(), self.state(&var_name).clone());
                self.tape.batch_norm(x, w, b, Statistics::Running(&mean, &var))
            }
        };
        if let Some(found) = found {
            let (mean, var) = self.updated(&found, &mean_name, &var_name);
            self.running.extend([(mean_name, mean), (var_name, var)]);
        }
        y
    }

    fn updated(&self, found: &BatchStatistics, mean: &str, var: &str) -> (Tensor, Tensor) {
        let (mut mean, mut var) = (self.state(mean).clone(), self.state(var).clone());
        found.update(&mut mean, &mut var);
        (mean, var)
    }

    /// resnet9's 3x3 convolution, batch norm and ReLU.
    fn block(&mut self, name: &str, x: Var) -> Var {
        let x = self.conv(&format!("{name}_conv"), x, 1, 1);
        let x = self.bn(&format!("{name}_bn"), x);
        self.tape.relu(x)
    }

    fn residual(&mut self, name: &str, x: Var) -> Var {
        let y = self.block(&format!("{name}_res1"), x);
        let y = self.block(&format!("{name}_res2"), y);
        self.tape.add(x, y)
    }

    fn resnet9(&mut self, images: Var) -> Var {
        let x = self.block("prep", images);
        let x = self.block("layer1", x);
        let x = self.tape.max_pool(x, 2, 2, 0);
        let x = self.residual("layer1_residual", x);
        let x = self.block("layer2", x);
        let x = self.tape.max_pool(x, 2, 2, 0);
        let x = self.block("layer3", x);
        let x = self.tape.max_pool(x, 2, 2, 0);
        let x = self.residual("layer3_residual", x);
        let x = self.tape.max_pool(x, 4, 4, 0);
        let [n, c, 1, 1] = self.tape.value(x).dims() else { panic!("the last pool leaves one pixel") };
        let x = self.tape.reshape(x, &[n, c]);
        let w = self.parameter("linear.weight".into());
        let x = self.tape.linear(x, w, None);
        self.tape.scale(x, 0.125)
    }

    fn basic_block(&mut self, name: &str, x: Var, stride: usize) -> Var {
        let y = self.conv(&format!("{name}.conv1"), x, stride, 1);
        let y = self.bn(&format!("{name}.bn1"), y);
        let y = self.tape.relu(y);
        let y = self.conv(&format!("{name}.conv2"), y, 1, 1);
        let y = self.bn(&format!("{name}.bn2"), y);
        let shortcut = match stride {
            1 => x,
            _ => {
                let x = self.conv(&format!("{name}.downsample.0"), x, stride, 0);
                self.bn(&format!("{name}.downsample.1"), x)
            }
        };
        let y = self.tape.add(y, shortcut);
        self.tape.relu(y)
    }

    fn resnet(&mut self, images: Var, stages: [usize; 4]) -> Var {
        let x = self.conv("conv1", images, 1, 1);
        let x = self.bn("bn1", x);
        let x = self.tape.relu(x);
        let mut x = self.tape.max_pool(x, 3, 2, 1);
        for (stage, blocks) in stages.into_iter().enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                x = self.basic_block(&format!("layer{}.{block}", stage + 1), x, stride);
            }
        }
        let x = self.tape.average_pool(x);
        let (w, b) = (self.parameter("fc.weight".into()), self.parameter("fc.bias".into()));
        self.tape.linear(x, w, Some(b))
    }
}

/// d = -lr (g + wd w); v = momentum v + d; w = w + d + momentum v, for every parameter in `gradients`.
/// An absent velocity is 0.
pub fn sgd(state: &mut Named, velocity: &mut Named, gradients: &Named, lr: f64, wd: f64, momentum: f64) {
    for (name, g) in gradients {
        let w = state.get_mut(name).unwrap_or_else(|| panic!("no parameter {name}"));
        let v = velocity.entry(name.clone()).or_insert_with(|| Tensor::zeros(&g.shape));
        for i in 0..g.data.len() {
            let d = -lr * (g.data[i] + wd * w.data[i]);
            v.data[i] = momentum * v.data[i] + d;
            w.data[i] += d + momentum * v.data[i];
        }
    }
}

/// Piecewise linear through (0, 0), (peak_epoch, peak), (epochs, 0).
pub fn schedule(epoch: f64, peak: f64, peak_epoch: f64, epochs: f64) -> f64 {
    if epoch <= peak_epoch {
        peak * epoch / peak_epoch
    } else {
        peak * (epochs - epoch) / (epochs - peak_epoch)
    }
}
