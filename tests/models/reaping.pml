/* Writers that die, those who take their claims back, and a newcomer who takes over what was theirs.

   What it is: set.pml with csrc/reap.hpp, journal.hpp and the life of lines in journal_pool.hpp.
   Every writer is an attachment with one journal line. Up to DEATHS writers are killed, STOPS are
   stopped for ever, at any step. Each of REAPERS goes over the dead's lines until nothing is left
   to do: reads a line's owner, asks whether it is dead, takes the claim back, frees the line. A
   reaper that is killed is one that takes no further step; the end is judged when any of them is
   done, wherever the others are. With LATE, the last writer attaches later, under the id of a
   dead one, and takes any free line under the next generation.

   Asserted, beside set.pml: a claim is only taken back from the dead; a note, and a line, is only
   cleared if its owner is dead. When a reaper is done and all writers ended, no slot is claimed
   but one that a living, stopped writer names.

   Left out: several sets, several threads of an attachment, a generation that wraps, a kernel that
   calls the living dead. The id of a dead attachment is taken in one step: the attach lock.

   Configuration: that of set.pml, P1 and P2 puts of writer 1 and of the others, DEATHS (1),
   STOPS (0), REAPERS (1), LATE.
   Planted faults: NAIVEREAP a reaper does not look for living writers that name the slot.
   NOREASK it does not ask again, after it has read a note, whose line it is. NOTELATE a writer notes its claim after
   it was exchanged. */
#ifndef P1
#define P1 1
#endif
#ifndef P2
#define P2 1
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef REAPERS
#define REAPERS 1
#endif
#ifndef NW
#define NW 2
#endif
#include "set.pml"

#define LINES 2

/* note = generation | slot 2 | active 1; line owner = generation | attachment 2 | used 1 */
#define ACTIVE(n) ((n) & 1)
#define NOTED(n) (((n) >> 1) & 3)
#define GEN(n) ((n) >> 3)
#define NOTE_OF(s, g) (1 + ((s) << 1) + ((g) << 3))
#define NOBODY(g) ((g) << 3)
#define USED(o) ((o) & 1)
#define ATTACHMENT(o) (((o) >> 1) & 3)
#define OWNER_OF(a, g) (1 + ((a) << 1) + ((g) << 3))

byte note[LINES];
byte line_owner[LINES];
bool living[NW + 1];          /* attachments: their byte of the file is locked */
byte attachment_of[NW + 1];   /* ghost: of a writer; 0: not attached */
byte holder[LINES];           /* ghost: the writer that took the line last */

#ifdef NOTELATE
#define NOTE(s)
#define NOTED_LATE(s) note[line] = NOTE_OF(s, generation);
#else
#define NOTE(s) note[line] = NOTE_OF(s, generation);
#endif
#define NOTE_NONE note[line] = NOBODY(generation);
#define LINE byte line, generation;
#define FORGET_LINE line = 0; generation = 0
#define LEASE lease();
#define GIVE_LINE line_owner[line] = NOBODY(generation);
#define DIES(w) living[attachment_of[w]] = false
#ifdef LATE
#define BEGINS_LATE(id) ((id) == NW)
#else
#define BEGINS_LATE(id) false
#endif

#define OWNS(a, l) (USED(line_owner[l]) && ATTACHMENT(line_owner[l]) == (a))
#define HAS_LEFT(a) (state[a] == DEAD && !living[a] && !OWNS(a, 0) && !OWNS(a, 1))

/* The first writers begin with a line each. A late one waits for what the dead leave. */
inline lease()
{
  if
  :: !BEGINS_LATE(id) -> atomic { line = id - 1; generation = 1 }
  :: else ->
end_waiting:
    atomic {
      if
      :: HAS_LEFT(1) -> w = 1
      :: HAS_LEFT(2) -> w = 2
      fi;
      living[w] = true;
      attachment_of[id] = w;
      line = 0
    };
    do
    :: h = line_owner[line];
      if
      :: USED(h) -> atomic { line = 1 - line; h = 0 }
      :: else ->
        atomic {
          if
          :: line_owner[line] == h ->
            generation = GEN(h) + 1;
            line_owner[line] = OWNER_OF(w, generation);
            holder[line] = id;
            break
          :: else -> h = 0
          fi
        }
      fi
    od;
    atomic { note[line] = NOBODY(generation); h = 0; w = 0 }
  fi
}

#include "users.pml"

#define LIVES(o) living[ATTACHMENT(o)]
#define DEAD_LINE(l) (USED(line_owner[l]) && !LIVES(line_owner[l]))
#define NAMED(l, s) (ACTIVE(note[l]) && NOTED(note[l]) == (s))
#define IS_KEPT(s) ((NAMED(0, s) && LIVES(line_owner[0])) || (NAMED(1, s) && LIVES(line_owner[1])))
#define IS_LEFT(l) (DEAD_LINE(l) && !(ACTIVE(note[l]) && IS_KEPT(NOTED(note[l]))))
#define ENDED(w) (state[w] != 0 || attachment_of[w] == 0)
#if NW > 2
#define ALL_ENDED (ENDED(1) && ENDED(2) && ENDED(3))
#else
#define ALL_ENDED (ENDED(1) && ENDED(2))
#endif

/* Takes back what the note n of line l claims. */
inline take_back()
{
  do
  :: h = word;
    if
    :: PENDING(h) -> help()
    :: !PENDING(h) && !CLAIMED(h, s) -> break
    :: else ->
#ifndef NAIVEREAP
      x = 0;
      do
      :: x == LINES -> break
      :: x < LINES ->
        atomic {
          other = note[x];
          if :: !(ACTIVE(other) && NOTED(other) == s) -> goto next_line :: else -> skip fi
        };
        other = line_owner[x];
        if :: USED(other) && LIVES(other) -> goto later :: else -> skip fi;
next_line:
        atomic { other = 0; x++ }
      od;
#endif
      atomic {
        if
        :: word == h ->
          assert(state[owner[s]] == DEAD);
          word = h + VERSION - CLAIM_BIT(s);
          owner[s] = 0;
          break
        :: else -> h = 0
        fi
      }
    fi
  od;
  atomic {
    if
    :: note[l] == n -> assert(state[holder[l]] == DEAD); note[l] = NOBODY(GEN(n))
    :: else -> skip
    fi
  }
}

proctype reaper()
{
  int h;
  short old, new;
  byte l, o, n, s, x, other, q2;
  bit k2, ok;
  do
  :: atomic {
       if :: DEAD_LINE(0) -> l = 0 :: DEAD_LINE(1) -> l = 1 fi;
       o = line_owner[l]
     };
    if :: LIVES(o) -> goto later :: else -> skip fi;
    atomic { n = note[l]; s = NOTED(n) };
    if :: !ACTIVE(n) -> goto clear_line :: else -> skip fi;
#ifndef NOREASK
    other = line_owner[l]; /* the line may have been freed, and taken by another, before n was read */
    if :: USED(other) && LIVES(other) -> goto later :: else -> skip fi;
#endif
    take_back();
clear_line:
    atomic { o = line_owner[l]; other = 0 };
    if :: !USED(o) -> goto later :: else -> skip fi;
    n = note[l];
    if :: ACTIVE(n) -> goto later :: else -> skip fi;
    if :: LIVES(o) -> goto later :: else -> skip fi;
    atomic {
      if
      :: line_owner[l] == o -> assert(state[holder[l]] == DEAD); line_owner[l] = NOBODY(GEN(o))
      :: else -> skip
      fi
    };
later:
    atomic { l = 0; o = 0; n = 0; s = 0; x = 0; other = 0; h = 0 }
  :: atomic {
       ALL_ENDED && !IS_LEFT(0) && !IS_LEFT(1) ->
       assert(!CLAIMED(word, 0) || IS_KEPT(0));
       assert(!CLAIMED(word, 1) || IS_KEPT(1));
       assert(!CLAIMED(word, 2) || IS_KEPT(2));
       break
     }
  od
}

init
{
  byte i;
  atomic {
    fill_set();
    for (i : 1 .. LINES) {
      if
      :: !BEGINS_LATE(i) ->
        line_owner[i - 1] = OWNER_OF(i, 1);
        note[i - 1] = NOBODY(1);
        holder[i - 1] = i;
        attachment_of[i] = i;
        living[i] = true
      :: else -> skip
      fi
    }
    run writer(1, P1);
    run writer(2, P2);
#if NW > 2
    run writer(3, P2);
#endif
    run killer();
    run reaper();
#if REAPERS > 1
    run reaper();
#endif
#ifdef CALLS
    run reader(CALLS)
#endif
  }
}
