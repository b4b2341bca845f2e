// Texts by words, as the search over all videos has it: what is found there is found and marked here, and the other way
// round. daemon/search/folding.py says what of a text is compared.

const ASCII = /^[ -~]*$/;
const PARTS = /"([^"]*)"|([^\s"]+)/g;
const LETTERS = new Intl.Segmenter(undefined, { granularity: "grapheme" });

const KEPT_TEXTS = 10_000;

/** @type {Map<string, boolean>} */
const accents = new Map();
/** @type {Map<string, string>} texts that were looked through, folded: they are again with the next letter that is typed */
const known = new Map();

/**
 * Whether two marks change places when they are put in order, as happens if the first has the higher combining class.
 * @param {string} a
 * @param {string} b
 */
const change = (a, b) => (a + b).normalize("NFD") !== a + b;

/**
 * Whether a mark is an accent, a Hebrew point or an Arabic sign, rather than a part of a letter: of the combining
 * classes from 10 to 36, and from 200 on. The marks that it is compared with have the classes 9, 84 and 132.
 * @param {string} mark
 */
function isAccent(mark) {
  let is = accents.get(mark);
  if (is === undefined) accents.set(mark, is = change(mark, "\u0f74") || (change(mark, "\u094d") && change("\u0c55", mark)));
  return is;
}

/**
 * A letter without its case, by its capitals: there are small letters, such as ß and ſ, that are one only there.
 * @param {string} letter
 */
const caseless = (letter) => (letter === "\u0131" ? letter : letter.toLowerCase().toUpperCase().toLowerCase());

/**
 * What of a text is compared, on one line.
 * @param {string} text
 */
export function fold(text) {
  return folded(text).replace(/[\p{C}\p{Z}]+/gu, " ").trim();
}

/** @param {string} text */
function folded(text) {
  if (ASCII.test(text)) return text.toLowerCase();
  return text.normalize("NFKC").replace(/./gsu, caseless).replaceAll("\u03c2", "\u03c3").normalize("NFD")
    .replace(/[\p{M}\p{Cf}\p{Cs}]/gu, (sign) => (/\p{M}/u.test(sign) && !isAccent(sign) ? sign : "")).normalize("NFC");
}

/** @type {{query: string, words: string[]}} that was asked for last */
let last = { query: "", words: [] };

/**
 * The words of a query, folded; several between quotation marks are one.
 * @param {string} query
 * @returns {string[]}
 */
export function wordsOf(query) {
  if (last.query !== query) last = { query, words: [...new Set([...query.matchAll(PARTS)].map(([, phrase, word]) => fold(phrase ?? word)))].filter(Boolean) };
  return last.words;
}

/**
 * Whether a text has all words of a query, in any order; of a query without words it has none.
 * @param {string} text
 * @param {string} query
 */
export function matches(text, query) {
  const words = wordsOf(query);
  if (!words.length) return false;
  const whole = known.get(text) ?? fold(text);
  if (known.size > KEPT_TEXTS) known.clear();
  known.set(text, whole);
  return words.every((word) => whole.includes(word));
}

/**
 * Where the words of a query are in a text.
 * @param {string} text
 * @param {string} query
 * @returns {[number, number][]} beginnings and ends, in order, none within another
 */
export function placesOf(text, query) {
  const words = wordsOf(query);
  if (!words.length) return [];
  const [whole, starts] = aligned(text);
  /** @type {[number, number][]} */
  const found = [];
  for (const word of words) {
    for (let at = whole.indexOf(word); at >= 0; at = whole.indexOf(word, at + word.length)) found.push([starts[at], starts[at + word.length]]);
  }
  found.sort((a, b) => a[0] - b[0]);
  return found.reduce((/** @type {[number, number][]} */ apart, [from, to]) => {
    const before = apart.at(-1);
    if (before && from <= before[1]) before[1] = Math.max(before[1], to);
    else apart.push([from, to]);
    return apart;
  }, []);
}

/**
 * A folded text, and where in the text each of its signs comes from.
 * @param {string} text
 * @returns {[string, number[]]}
 */
function aligned(text) {
  let whole = "";
  const starts = [];
  for (const { segment, index } of LETTERS.segment(text)) {
    const some = folded(segment).replace(/[\p{C}\p{Z}]+/gu, " ");
    if (some === " " && (!whole || whole.endsWith(" "))) continue;
    for (let n = 0; n < some.length; n += 1) starts.push(index);
    whole += some;
  }
  return [whole, [...starts, text.length]];
}
