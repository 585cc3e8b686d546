// Colour maps as polynomials of degree 6. Mirrors src/trace/palette.rs, which holds the coefficients
// and their sources: they arrive in a uniform, so that both sides evaluate the same numbers.

fn colormap(coefficients: array<vec4<f32>, 7>, t_raw: f32) -> vec3<f32> {
    let t = clamp(t_raw, 0.0, 1.0);
    let c = coefficients;
    let rgb = c[0].xyz
        + t * (c[1].xyz + t * (c[2].xyz + t * (c[3].xyz + t * (c[4].xyz + t * (c[5].xyz + t * c[6].xyz)))));
    return clamp(rgb, vec3(0.0), vec3(1.0));
}

// `t` to the power of `gamma`, which is 1 for the diverging map. The logarithm behind `pow` has no value at 0.
fn with_gamma(t_raw: f32, gamma: f32) -> f32 {
    let t = clamp(t_raw, 0.0, 1.0);
    if gamma == 1.0 || t == 0.0 {
        return t;
    }
    return pow(t, gamma);
}
