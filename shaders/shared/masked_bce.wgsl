// What the masked binary cross-entropy shares with an op that computes the gradient of it itself: labels, of which some
// are known, and how a batch is averaged.
//
// By observed entries: weight_b = 1, denominator_b = known labels of clip b. By clips: weight_b = 1 / known labels,
// denominator_b = 1, both 0 where nothing is known. Partial: weight_b = g(q) / K, denominator_b = 1, for the fraction q
// of known labels. A clip of length 0 (padding) has weight 0 and denominator 0.
#import value

struct Mean {
    norm: u32,  // 0 by observed entries, 1 by clips, 2 partial
    alpha: f32, // g(q) = alpha q^gamma + beta
    beta: f32,
    gamma: f32,
}

@group(0) @binding(11) var<storage, read> targets: array<Value>;  // (R, B, K)
@group(0) @binding(12) var<storage, read> observed: array<Value>; // (R, B, K)

// Weight and denominator of a clip with so many known labels, which is not padding.
fn weigh(mean: Mean, known: f32, classes: f32) -> vec2<f32> {
    if mean.norm == 1u {
        let denominator = min(known, 1.0);
        return vec2(denominator / max(known, 1.0), denominator);
    }
    if mean.norm == 2u {
        var weight = 0.0;
        if known > 0.0 { weight = (mean.alpha * pow(known / classes, mean.gamma) + mean.beta) / classes; }
        return vec2(weight, 1.0);
    }
    return vec2(1.0, known);
}

// Times `factor`, for the probability v of target t.
fn slope_of(v: Value, t: Value, factor: f32) -> Value {
    return factor * (v - t) / max(v * (1.0 - v), Value(1e-12));
}
