/* A set of the store: two ways, NS slots, two keys; the set word, with helping. Included, with
   users.pml, by the scenarios two_keys.pml, stopped_writer.pml and reaping.pml, which say who runs.

   What it is: csrc/set_word.hpp, tag.hpp, slot.hpp, set_help.hpp, set_read.hpp and set_write.hpp,
   reduced. Every access to shared memory is a step of its own; an atomic block holds one such
   access, with work on own variables and ghosts. Memory is sequentially consistent.

   Asserted here. A tag's compare-exchange succeeds only while the change that it belongs to is
   still announced, and once (unless ver wraps: VM < 63). It then takes effect: never a second tag
   for one key, the other tag fits its slot, the published slot is filled. A claimed slot is free.
   A put or removal that reports success has taken effect; one that gives up does so after
   another's change was announced; a key that is reported absent is. At a reader's hit the row is
   whole, it is the key's, it was published, and it is no older than what was published when the
   call began, nor than this reader's last hit; what was removed or evicted does not come back.

   Left out: the hand's place, ages, classes, origins: any victim may be taken. Row bytes, but two
   halves. Order and checksum of a slot. The retries of a reader: a second call stands for them.

   Configuration: NS slots (3), NW writers (2), VM mask of ver (63: no wrap), BUDGET reads of the
   set word that a put may make before it gives up (0: any number). Switches: ANYSLOT any free slot
   may be claimed, not just the next after the one published last. REMOVES an operation may remove
   its key instead. HAND hands and readers change visited bits. SAMEFP both keys have one
   fingerprint. GIVEUP a filled slot may be given back once another change was announced.
   EMPTY the set is empty at the start. ONEKEY everybody puts key 0.
   Planted faults: NOVER a reader does not compare ver. NOREREAD a helper does not read the set word
   again. CLEARZERO a removal writes an empty tag. EXACTWORD a writer takes its change for done as
   soon as the set word is another. PLAINHAND the hand clears the visited bit by a plain store. */
#ifndef NS
#define NS 3
#endif
#ifndef VM
#define VM 63
#endif
#ifndef NW
#define NW 2
#endif
#ifndef BUDGET
#define BUDGET 0
#endif

/* set word = version | claimed 4 | slot 2 | way 1 | pending 1 */
#define PENDING(h) ((h) & 1)
#define WAY(h) (((h) >> 1) & 1)
#define PSLOT(h) (((h) >> 2) & 3)
#define CLAIMED(h, s) (((h) >> (4 + (s))) & 1)
#define CLAIM_BIT(s) (16 << (s))
#define VERSION 256
#define CHANGE(h) ((h) & 15)
#define CHANGE_OF(w, s) (1 + ((w) << 1) + ((s) << 2))
#define PUBLISHES(h) CLAIMED(h, PSLOT(h))
#define ANNOUNCED(h, w, s) (((h) & ~15) + VERSION + CHANGE_OF(w, s))
/* h still shows the change that its writer announced as the word `mine`. */
#ifdef EXACTWORD
#define SHOWS(h) (h == mine)
#else
#define SHOWS(h) (CHANGE(h) == CHANGE(mine))
#endif

/* tag = ver | visited 1 | fingerprint 1 | slot 2 | valid 1 */
#define VALID(t) ((t) & 1)
#define TSLOT(t) (((t) >> 1) & 3)
#define FP(t) (((t) >> 3) & 1)
#define VISITED 16
#define VER(t) ((t) >> 5)
#define VER_OF(q) (((q) >> 1) & VM)
#define TAG(s, q, k) (1 + ((s) << 1) + (FP_OF(k) << 3) + (VER_OF(q) << 5))
#define FITS(t, q) (!((q) & 1) && VER_OF(q) == VER(t))
#ifdef SAMEFP
#define FP_OF(k) 0
#else
#define FP_OF(k) (k)
#endif

int word;
short tag[2];
byte seq[NS];
bit key[NS];
byte row0[NS];
byte row1[NS];

/* Ghosts. A row's number says who wrote it; 1 and 2 are there at the start. */
#define ROW(id, n) (1 + 2 * (id) + (n))
#define ROWS (3 + 2 * NW)
byte owner[NS];      /* who claimed the slot */
bit keyOf[ROWS];
byte place[ROWS];    /* where the row stands in its key's history; 0: never published */
byte last[2];        /* the latest event of each key's history */
byte changes;        /* puts and removals announced so far */
byte state[NW + 1];  /* 0 runs, 1 dead, 2 stopped for ever, 3 finished */
#define DEAD 1
#define STOPPED 2
#define FINISHED 3

/* What the tag's compare-exchange means, h being the word that the helper went by. */
inline took_effect(h, w, old, new)
{
#if VM >= 63
  assert(CHANGE(word) == CHANGE(h) && PUBLISHES(word) == PUBLISHES(h));
#endif
  if
  :: CHANGE(word) == CHANGE(h) && PUBLISHES(word) == PUBLISHES(h) ->
    if
    :: VALID(old) -> last[key[TSLOT(old)]]++ /* replaced or removed: must not come back */
    :: else -> skip
    fi;
    if
    :: PUBLISHES(h) ->
      assert(seq[PSLOT(h)] % 2 == 0 && row0[PSLOT(h)] == row1[PSLOT(h)]);
#if VM >= 63
      assert(place[row0[PSLOT(h)]] == 0); /* once */
#endif
      last[key[PSLOT(h)]]++;
      place[row0[PSLOT(h)]] = last[key[PSLOT(h)]];
      assert(FP(new) == FP_OF(key[PSLOT(h)]));
      if
      :: VALID(tag[1 - w]) ->
#if VM >= 63
        assert(FITS(tag[1 - w], seq[TSLOT(tag[1 - w])]));
#endif
        assert(key[TSLOT(tag[1 - w])] != key[PSLOT(h)] || !FITS(tag[1 - w], seq[TSLOT(tag[1 - w])]))
      :: else -> skip
      fi
    :: else -> skip
    fi
  :: else -> skip
  fi
}

/* Finishes the change that h, which was read and is pending, announces; or finds that it is done.
   Either way its caller reads the word again. */
inline help()
{
  if
  :: PUBLISHES(h) ->
    q2 = seq[PSLOT(h)];
    atomic { k2 = key[PSLOT(h)]; new = TAG(PSLOT(h), q2, k2); q2 = 0; k2 = 0 };
    old = tag[WAY(h)]
  :: else ->
    atomic {
      old = tag[WAY(h)];
#ifdef CLEARZERO
      new = 0
#else
      new = old - VALID(old)
#endif
    }
  fi;
#ifdef NOREREAD
  ok = 1;
#else
  ok = (word == h);
#endif
  if
  :: ok && (old | VISITED) != (new | VISITED) ->
    atomic {
      if
      :: tag[WAY(h)] == old -> tag[WAY(h)] = new; took_effect(h, WAY(h), old, new)
      :: else -> ok = 0
      fi
    }
  :: else -> skip
  fi;
  atomic {
    if
    :: ok && word == h ->
      if
      :: PUBLISHES(h) -> word = h - 1 - CLAIM_BIT(PSLOT(h)) + VERSION; owner[PSLOT(h)] = 0
      :: else -> word = h - 1 + VERSION
      fi
    :: else -> skip
    fi;
    old = 0; new = 0; ok = 0; h = 0
  }
}
