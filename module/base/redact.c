/* SPDX-License-Identifier: GPL-3.0-or-later */
/* redact.c - take secrets out of text that a server may have echoed.  */
#include "base/redact.h"
#include "base/ascii.h"

#include <gnutls/gnutls.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_MIN 3    /* fewer octets are found in any text */
#define SHORT 6         /* fewer are found between borders of words only, */
#define WORD_MAX_LEN 16 /* and so are fewer that read like a word */
#define PART_MIN 8      /* octets that begin a secret give it away, too, */
#define PART_DIGITS 12  /* and so do digits of base64 */
#define CUT_MIN 4       /* octets of a secret that a cut has left */
#define BASE64_MIN 4    /* digits that stand for a secret and nothing else */
#define BASE64_SHORT 6  /* fewer must be the beginning of their run */

/* Where a secret may be found.  */
enum rule { ANYWHERE, AS_WORD, ENCODED, EVERYTHING };

struct needle {
  enum rule rule;
  const char *octets;
  size_t len;
};

/* What is searched.  */
struct text {
  const char *at;
  size_t len;
  bool cut;
};

/* The needles in their buffer: a header and the octets, one after the other */

struct header {
  enum rule rule;
  size_t len;
};

/* Replies consist of these, verbs and numbers aside.  */
static const char words[] =
    " 7bit 8bit 8bitmime abort accept accepted access account action address "
    "again allowed already auth authenticated authentication available bad "
    "bdat been begin body bounce bytes cannot check client close closing code "
    "command completed connect connection credentials cram data date deliver "
    "delivered delivery denied disabled domain dsn ehlo email enabled end "
    "enhanced enough enter error expected expired external failed failure "
    "fine first forward from full good goodbye greeting hello helo help host "
    "hostname identity incorrect input internal invalid later length limit "
    "line local login mail mailbox mailer mechanism message missing more must "
    "name need network next none nothing object okay only option others "
    "parameter password path permission permitted pipelining plain please "
    "port postmaster pretty proceed protocol queue queued quit quota rcpt "
    "ready received recipient recipients refused reject rejected relay remote "
    "reply request required reset response retry route rset secret secure "
    "send sender sent sequence server service session size smtp sorry space "
    "spam spool start starttls status storage success successful support "
    "supported syntax system temporary test text thanks this time timeout tls "
    "token transaction transfer transmission transport tries unable unknown "
    "unrecognized user username valid verify version wait welcome with wrong "
    "your ";

static bool common(const char *secret, size_t len) {
  for (const char *at = words + 1; *at;) {
    size_t n = strcspn(at, " ");
    if (smn_ascii_same(at, n, secret, len))
      return true;
    at += n + 1;
  }
  return false;
}

/* Letters, with digits only at the end.  */
static bool like_a_word(const char *secret, size_t len) {
  size_t at = 0;
  while (at < len && smn_ascii_letter(secret[at]))
    at++;
  while (at < len && smn_ascii_digit(secret[at]))
    at++;
  return at == len && len < WORD_MAX_LEN;
}

static enum rule rule_for(const char *secret, size_t len) {
  return common(secret, len)                       ? ENCODED
         : len < SHORT || like_a_word(secret, len) ? AS_WORD
                                                   : ANYWHERE;
}

static bool take(const struct smn_buf *needles, size_t *at,
                 struct needle *needle) {
  struct header header;
  if (*at >= needles->len)
    return false;
  memcpy(&header, needles->data + *at, sizeof header);
  *needle = (struct needle){header.rule, needles->data + *at + sizeof header,
                            header.len};
  *at += sizeof header + header.len;
  return true;
}

static bool known(const struct smn_buf *needles, const char *secret,
                  size_t len) {
  struct needle needle;
  for (size_t at = 0; take(needles, &at, &needle);)
    if (needle.len == len && memcmp(needle.octets, secret, len) == 0)
      return true;
  return false;
}

void smn_redact_add(struct smn_buf *needles, const char *secret, size_t len) {
  if (len < SECRET_MIN || known(needles, secret, len))
    return;
  /* Padding of the header must not be whatever the stack held.  */
  struct header header;
  memset(&header, 0, sizeof header);
  header.rule = rule_for(secret, len);
  header.len = len;
  size_t before = needles->len;
  if (smn_buf_add(needles, &header, sizeof header) &&
      smn_buf_add(needles, secret, len))
    return;
  needles->len = before;
  header.rule = EVERYTHING;
  header.len = 0;
  if (!smn_buf_add(needles, &header, sizeof header)) {
    smn_buf_clear(needles);
    (void)!smn_buf_add(needles, &header, sizeof header);
  }
}

/* Decode BASE64, and add what stands behind the last MARK in it, up to END.  */
static void add_digest(struct smn_buf *needles, const char *raw, size_t len,
                       const char *mark, const char *end) {
  size_t n = strlen(mark), at = len;
  while (at > n && memcmp(raw + at - n, mark, n) != 0)
    at--;
  if (at <= n)
    return;
  size_t to = at;
  while (to < len && !strchr(end, raw[to]))
    to++;
  smn_redact_add(needles, raw + at, to - at);
}

void smn_redact_add_response(struct smn_buf *needles, const char *base64,
                             size_t len) {
  gnutls_datum_t encoded = {(unsigned char *)(size_t)base64, (unsigned)len};
  gnutls_datum_t raw = {NULL, 0};
  smn_redact_add(needles, base64, len);
  if (len == 0 || gnutls_base64_decode2(&encoded, &raw) != 0)
    return;
  add_digest(needles, (char *)raw.data, raw.size, " ", "");
  add_digest(needles, (char *)raw.data, raw.size, ",p=", ",=");
  add_digest(needles, (char *)raw.data, raw.size, "response=", ",");
  smn_wipe(raw.data, raw.size);
  gnutls_free(raw.data);
}

/* Borders of words */

static bool in_word(char c) {
  return smn_ascii_letter(c) || smn_ascii_digit(c) || (unsigned char)c >= 0x80;
}

static bool hex_pair(const char *at) {
  return smn_ascii_hex(at[0]) >= 0 && smn_ascii_hex(at[1]) >= 0;
}

/* An escape that ends before AT stands for some octet that is no letter, or
   is taken for one: that hides more, never less.  */
static bool escape_before(const struct text *text, size_t at) {
  const char *here = text->at + at;
  return (at >= 2 && here[-2] == '\\') ||
         (at >= 3 && memchr("%+=", here[-3], 3) && hex_pair(here - 2)) ||
         (at >= 4 && here[-4] == '\\' && hex_pair(here - 2)) ||
         (at >= 6 && here[-6] == '\\' && here[-5] == 'u' &&
          hex_pair(here - 4) && hex_pair(here - 2));
}

static bool word_begins(const struct text *text, size_t at) {
  return at == 0 || !in_word(text->at[at - 1]) || escape_before(text, at);
}

static bool word_ends(const struct text *text, size_t at) {
  return at == text->len || !in_word(text->at[at]);
}

/* Nothing more was shown of what stood before AT.  */
static bool cut_at(const struct text *text, size_t at) {
  return at == text->len
             ? text->cut
             : text->len - at >= 3 && memcmp(text->at + at, "...", 3) == 0;
}

/* Forms of a secret */

/* The octet for which an escape at AT stands, -1 without; its length goes to
 *USED.  */
static int escaped(const struct text *text, size_t at, size_t *used) {
  static const char letters[] = "bfnrt", octets[] = "\b\f\n\r\t";
  const char *here = text->at + at;
  size_t left = text->len - at;
  size_t digits = left >= 3 && memchr("%+=", here[0], 3)           ? 1
                  : left >= 4 && here[0] == '\\' && here[1] == 'x' ? 2
                  : left >= 6 && memcmp(here, "\\u00", 4) == 0     ? 4
                                                                   : 0;
  if (digits && hex_pair(here + digits)) {
    *used = digits + 2;
    return smn_ascii_hex(here[digits]) * 16 + smn_ascii_hex(here[digits + 1]);
  }
  if (left < 2 || here[0] != '\\')
    return -1;
  const char *letter = memchr(letters, here[1], sizeof letters - 1);
  *used = 2;
  return letter             ? octets[letter - letters]
         : in_word(here[1]) ? -1
                            : (unsigned char)here[1];
}

static bool same_octet(int octet, char secret) {
  return octet >= 0 && smn_ascii_upper((char)octet) == smn_ascii_upper(secret);
}

/* The length of NEEDLE at AT, or of a beginning of it that gives it away, with
   or without some octets escaped; 0 without it.  An octet that introduces an
   escape stands for itself where LITERAL.  */
static size_t spelled(const struct text *text, size_t at,
                      const struct needle *needle, bool literal) {
  size_t to = at, part = 0;
  for (size_t i = 0; i < needle->len; i++) {
    size_t used = 1;
    if ((needle->rule == ANYWHERE && i >= PART_MIN) ||
        (i >= CUT_MIN && cut_at(text, to)))
      part = to - at;
    int octet = escaped(text, to, &used);
    bool plain = to < text->len &&
                 same_octet((unsigned char)text->at[to], needle->octets[i]);
    if (same_octet(octet, needle->octets[i]) && !(literal && plain))
      to += used;
    else if (plain)
      to++;
    else
      return part;
  }
  return to - at;
}

static size_t hexadecimal(const struct text *text, size_t at,
                          const struct needle *needle) {
  size_t to = at;
  for (size_t i = 0; i < needle->len; i++, to += 2) {
    if (cut_at(text, to) && i >= CUT_MIN)
      return to - at;
    if (text->len - to < 2 || !hex_pair(text->at + to) ||
        smn_ascii_hex(text->at[to]) * 16 + smn_ascii_hex(text->at[to + 1]) !=
            (unsigned char)needle->octets[i])
      return 0;
  }
  return to - at;
}

/* The value of a digit of base64 or base64url, -1 for anything else.  */
static int base64_digit(char c) {
  return c >= 'A' && c <= 'Z'   ? c - 'A'
         : c >= 'a' && c <= 'z' ? c - 'a' + 26
         : c >= '0' && c <= '9' ? c - '0' + 52
         : c == '+' || c == '-' ? 62
         : c == '/' || c == '_' ? 63
                                : -1;
}

/* Six bits of the needle, from its bit BIT.  */
static int sextet(const struct needle *needle, size_t bit) {
  const unsigned char *octets = (const unsigned char *)needle->octets;
  size_t at = bit / 8;
  unsigned pair = (unsigned)octets[at] << 8;
  if (at + 1 < needle->len)
    pair |= octets[at + 1];
  return (int)(pair >> (10 - bit % 8) & 63);
}

/* The digits at AT, with SIZE left in their run, hold NEEDLE, of which the
   first SKIP bits share a digit with what stands before.  */
static bool base64_here(const struct text *text, size_t at, size_t size,
                        const struct needle *needle, size_t skip, bool first) {
  size_t want = (8 * needle->len - skip) / 6;
  size_t least = first && skip == 0 ? BASE64_MIN : BASE64_SHORT;
  if (want < least)
    return false;
  for (size_t i = 0; i < want; i++) {
    if (i == size)
      return i >= PART_DIGITS || (i >= BASE64_SHORT && cut_at(text, at + size));
    if (base64_digit(text->at[at + i]) != sextet(needle, skip + 6 * i))
      return i >= PART_DIGITS;
  }
  return true;
}

/* A run of base64 begins at AT and holds NEEDLE: its length with the padding,
   since the digits beside hold some bits of it, too.  */
static size_t base64(const struct text *text, size_t at,
                     const struct needle *needle) {
  static const size_t skips[] = {0, 4, 2};
  size_t size = 0;
  if (at > 0 && !escape_before(text, at) &&
      (base64_digit(text->at[at - 1]) >= 0 || text->at[at - 1] == '\\'))
    return 0;
  while (at + size < text->len && base64_digit(text->at[at + size]) >= 0)
    size++;
  bool found = false;
  for (size_t i = 0; !found && i < size; i++)
    for (size_t s = 0; !found && s < 3; s++)
      found = base64_here(text, at + i, size - i, needle, skips[s], i == 0);
  if (!found)
    return 0;
  while (at + size < text->len && text->at[at + size] == '=')
    size++;
  return size;
}

static size_t longer(size_t a, size_t b) { return a > b ? a : b; }

static size_t in_clear(const struct text *text, size_t at,
                       const struct needle *needle) {
  size_t n =
      longer(spelled(text, at, needle, false), spelled(text, at, needle, true));
  if (needle->rule == ANYWHERE || n == 0 || n > needle->len)
    return n; /* more octets than it has: some are escaped */
  bool word = needle->rule == AS_WORD && word_begins(text, at) &&
              (word_ends(text, at + n) || cut_at(text, at + n));
  return word ? n : 0;
}

/* The longest match at AT, 0 without one.  */
static size_t match(const struct smn_buf *needles, const struct text *text,
                    size_t at) {
  struct needle needle;
  size_t longest = 0;
  for (size_t from = 0; take(needles, &from, &needle);) {
    if (needle.rule == EVERYTHING)
      return text->len - at;
    longest = longer(longest, in_clear(text, at, &needle));
    longest = longer(longest, hexadecimal(text, at, &needle));
    longest = longer(longest, base64(text, at, &needle));
  }
  return longest;
}

/* The end of what is to be hidden from AT on, AT itself if nothing is.  */
static size_t hidden_up_to(const struct smn_buf *needles,
                           const struct text *text, size_t at) {
  size_t end = at;
  for (size_t i = at; i <= end && i < text->len; i++)
    end = longer(end, i + match(needles, text, i));
  return end;
}

/* Replacing */

struct out {
  char *at;
  size_t size, len;
  size_t marked; /* the end of the last mark */
};

static void put(struct out *out, const char *bytes, size_t len) {
  if (len > out->size - out->len)
    len = out->size - out->len;
  memcpy(out->at + out->len, bytes, len);
  out->len += len;
}

/* Text before it gives way to a mark, but no other mark does.  */
static void put_mark(struct out *out) {
  size_t need = sizeof SMN_OMITTED - 1;
  if (out->size - out->len < need)
    out->len = out->size - out->marked < need ? out->marked : out->size - need;
  if (out->size - out->len >= need)
    put(out, SMN_OMITTED, need);
  else
    out->size = out->len; /* what follows must not look as if it followed */
  out->marked = out->len;
}

size_t smn_redact(const struct smn_buf *needles, const char *text, size_t len,
                  bool cut, char *out, size_t size) {
  const struct text from = {text, len, cut};
  struct out to = {out, size, 0, 0};
  for (size_t at = 0; at < len;) {
    size_t end = hidden_up_to(needles, &from, at);
    if (end > at)
      put_mark(&to);
    else
      put(&to, text + end++, 1);
    at = end;
  }
  return to.len;
}

/* The redacted copy of TEXT, ended by a NUL, with its length of at most MOST
   in *LEN; *HELD tells that there was anything to take out.  NULL without
   memory, or when there was not.  */
static char *redacted(const struct smn_buf *needles, const char *text,
                      size_t *len, bool cut, size_t most, bool *held) {
  const struct text from = {text, *len, cut};
  *held = false;
  for (size_t at = 0; !*held && at < *len; at++)
    *held = hidden_up_to(needles, &from, at) > at;
  size_t size = (*len / SECRET_MIN + 1) * sizeof SMN_OMITTED + *len;
  if (size > most)
    size = most;
  char *copy = *held ? malloc(size + 1) : NULL;
  if (copy) {
    *len = smn_redact(needles, text, *len, cut, copy, size);
    copy[*len] = '\0';
  }
  return copy;
}

void smn_redact_field(const struct smn_buf *needles, char *text, size_t size) {
  size_t len = strlen(text);
  bool held;
  char *copy = redacted(needles, text, &len, len + 1 == size, size - 1, &held);
  if (!held)
    return;
  smn_wipe(text, size);
  if (copy)
    memcpy(text, copy, len);
  free(copy);
}

void smn_redact_string(const struct smn_buf *needles, char **text) {
  bool held;
  if (!*text)
    return;
  size_t len = strlen(*text);
  char *copy = redacted(needles, *text, &len, false, SIZE_MAX, &held);
  if (!held)
    return;
  smn_wipe(*text, strlen(*text));
  if (!copy)
    return;
  free(*text);
  *text = copy;
}
