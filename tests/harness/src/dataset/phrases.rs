//! What people write in the chat: several scripts, both directions, emoji made of several code points,
//! quotes and backslashes. Every phrase is free of whitespace other than single spaces, so the plain text
//! of a body is known.

/// A phrase for a message, a name or a topic.
pub(crate) const PHRASES: [&str; 20] = [
    "See you at the stand-up",
    "Größe und Straße, naïve café",
    "Привет, как дела?",
    "こんにちは、会議は三時です",
    "你好，请看附件",
    "안녕하세요 여러분",
    "مرحبا بالجميع",
    "שלום לכולם",
    "नमस्ते दोस्तों",
    "สวัสดีทุกคน",
    "Γειά σας",
    "👩‍👩‍👧‍👦 family day 🏳️‍🌈",
    "👍🏽👍🏿 done ✅",
    "e\u{301}te\u{301} (combining marks)",
    "it's \"quoted\" and \\escaped\\",
    "100% of $1 and {{braces}} -- '; DROP TABLE x",
    "zero\u{200d}width\u{200b}joiner",
    "İstanbul ile ılık",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 beyond the basic plane 𠜎",
    "lowercase UPPERCASE TitleCase",
];
