//! What a frame is, by the model of the profile, and the colour that shows it.
//!
//! The colours are those of Okabe and Ito ("Color Universal Design", 2008), which readers with any
//! form of colour blindness tell apart, and on which black text has a contrast of at least 5 to 1.
//! Those of Python and of interpreters differ from these, and from each other, at least as much as
//! these do. Cut and guessed stacks and idle time have a pattern besides.

use profile::{InterpretedLanguage, MappingKind};

/// What a frame of the picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum FrameKind {
    /// The kernel, its modules and BPF programs.
    Kernel,
    /// A function of a program or a library.
    Native,
    /// A function that the compiler inlined into its caller.
    Inlined,
    /// A function of Python that an interpreter runs.
    Python,
    /// Machinery of an interpreter between the functions that it runs.
    Interpreter,
    /// Code in memory without a file, which a JIT compiler made.
    Jit,
    /// Code of a file without a symbol, or of no known mapping.
    Unnamed,
    /// Placeholder for the outer frames missing from a stack.
    Cut,
    /// Marks stacks with a frame found by frame pointer alone.
    Guessed,
    /// All stacks, a process, or a thread.
    Task,
    /// Time in which no task ran.
    Idle,
    /// Frames too narrow to be drawn one by one.
    Rest,
}

impl FrameKind {
    /// The kinds that the legend explains, in its order.
    pub const LEGEND: [Self; 9] = [
        Self::Kernel,
        Self::Native,
        Self::Inlined,
        Self::Python,
        Self::Interpreter,
        Self::Jit,
        Self::Unnamed,
        Self::Cut,
        Self::Guessed,
    ];
    /// The kinds that the legend explains only if the picture has them.
    pub const EXPLAINED_IF_DRAWN: [Self; 2] = [Self::Python, Self::Interpreter];
    /// The kinds whose colour has a pattern on it.
    pub const WITH_PATTERN: [Self; 3] = [Self::Cut, Self::Guessed, Self::Idle];

    /// Returns the kind of a function. `is_inlined`: into another function at the same address.
    pub fn of_function(mapping: MappingKind, is_inlined: bool) -> Self {
        match (mapping, is_inlined) {
            (MappingKind::Kernel, _) => Self::Kernel,
            (MappingKind::Memory, _) => Self::Jit,
            (MappingKind::Interpreted(language), _) => Self::of_language(language),
            (MappingKind::Interpreter, _) => Self::Interpreter,
            (_, true) => Self::Inlined,
            (_, false) => Self::Native,
        }
    }

    fn of_language(language: InterpretedLanguage) -> Self {
        match language {
            InterpretedLanguage::Python => Self::Python,
        }
    }

    /// Returns the kind of code without a symbol.
    pub fn of_unnamed(mapping: MappingKind) -> Self {
        match mapping {
            MappingKind::Kernel => Self::Kernel,
            MappingKind::Memory => Self::Jit,
            MappingKind::Interpreted(language) => Self::of_language(language),
            MappingKind::Interpreter => Self::Interpreter,
            MappingKind::File | MappingKind::Vdso | MappingKind::Unknown => Self::Unnamed,
        }
    }

    /// Returns the word for the legend and for tooltips.
    pub fn label(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Native => "native",
            Self::Inlined => "inlined",
            Self::Python => "Python",
            Self::Interpreter => "interpreter",
            Self::Jit => "JIT",
            Self::Unnamed => "unnamed",
            Self::Cut => "cut",
            Self::Guessed => "guessed",
            Self::Task => "task",
            Self::Idle => "idle",
            Self::Rest => "narrow",
        }
    }

    /// Returns what frames of this kind mean, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Kernel => "code of the kernel",
            Self::Native => "functions of programs and libraries",
            Self::Inlined => "functions that the compiler inlined into their callers",
            Self::Python => "functions of Python, which an interpreter runs",
            Self::Interpreter => "native code of an interpreter between the functions that it runs",
            Self::Jit => "code in memory without a file, made by a JIT compiler",
            Self::Unnamed => "code without a symbol",
            Self::Cut => "the outer frames of these stacks are missing, for the reason in brackets",
            Self::Guessed => {
                "a frame of these stacks was found by frame pointer alone, and nothing confirms it"
            }
            Self::Task => "a process or a thread",
            Self::Idle => "no task ran",
            Self::Rest => "frames that are too narrow to be drawn one by one",
        }
    }

    /// Returns the colour, as SVG writes it.
    pub fn color(self) -> &'static str {
        match self {
            Self::Kernel => "#e69f00",
            Self::Native => "#56b4e9",
            Self::Inlined => "#f0e442",
            Self::Python => "#7870f0",
            Self::Interpreter => "#b8e0a8",
            Self::Jit => "#009e73",
            Self::Unnamed => "#c0c0c0",
            Self::Cut => "#d55e00",
            Self::Guessed => "#cc79a7",
            Self::Task => "#e8e8e8",
            Self::Idle | Self::Rest => "#f7f7f7",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rgb = [f64; 3];

    /// How readers see linear RGB: all colours, and without one of the three kinds of cones.
    ///
    /// Source: Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color
    /// Vision Deficiency", 2009, severity 1.
    const READERS: [(&str, [Rgb; 3]); 4] = [
        ("all", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (
            "protanopia",
            [
                [0.152286, 1.052583, -0.204868],
                [0.114503, 0.786281, 0.099216],
                [-0.003882, -0.048116, 1.051998],
            ],
        ),
        (
            "deuteranopia",
            [
                [0.367322, 0.860646, -0.227968],
                [0.280085, 0.672501, 0.047413],
                [-0.011820, 0.042940, 0.968881],
            ],
        ),
        (
            "tritanopia",
            [
                [1.255528, -0.076749, -0.178779],
                [-0.078411, 0.930809, 0.147602],
                [0.004733, 0.691367, 0.303900],
            ],
        ),
    ];

    fn linear(color: &str) -> Rgb {
        [1, 3, 5].map(|at| {
            let value = u8::from_str_radix(&color[at..at + 2], 16).expect("hexadecimal");
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
    }

    fn multiply(matrix: &[Rgb; 3], [x, y, z]: Rgb) -> Rgb {
        matrix.map(|row| row[0] * x + row[1] * y + row[2] * z)
    }

    /// Returns the coordinates in CIELAB (D65), in which distances are about as large as they look.
    fn lab(linear: Rgb) -> Rgb {
        const TO_XYZ: [Rgb; 3] = [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ];
        let [x, y, z] = multiply(&TO_XYZ, linear.map(|value| value.clamp(0.0, 1.0)));
        let root = |t: f64| if t > 0.008856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
        let [x, y, z] = [root(x / 0.95047), root(y), root(z / 1.08883)];
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    #[test]
    fn black_text_is_readable_on_every_colour() {
        for kind in FrameKind::LEGEND {
            let [r, g, b] = linear(kind.color());
            let luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
            let contrast = (luminance + 0.05) / 0.05; // WCAG 2.2, 1.4.3
            assert!(contrast >= 5.0, "{kind:?}: {contrast:.2}");
        }
    }

    #[test]
    fn colours_differ_for_readers_with_any_colour_blindness() {
        for (reader, matrix) in &READERS {
            let seen = FrameKind::LEGEND.map(|kind| lab(multiply(matrix, linear(kind.color()))));
            for (at, one) in seen.iter().enumerate() {
                for (other_at, other) in seen.iter().enumerate().skip(at + 1) {
                    let squares = one.iter().zip(other).map(|(a, b)| (a - b).powi(2));
                    let distance = squares.sum::<f64>().sqrt();
                    let kinds = [at, other_at].map(|index| FrameKind::LEGEND[index]);
                    assert!(distance >= 15.0, "{kinds:?} to {reader}: {distance:.1}");
                }
            }
        }
    }
}
