/* A reader of one key against writers that overwrite it out of place.

   What it shows: the sequence number of a slot together with the ver of the tag that names it is
   all a reader needs. Steps of their own: every access to the tag, to a sequence number, to a key
   and to each half of a row (csrc/tag.hpp, slot.hpp, set_read.hpp). Claiming a slot and publishing
   it are one step each: that the set word makes them so is what set.pml is for.

   A set of one way and NS slots; NW writers put two keys of one fingerprint or remove the entry;
   up to MAXD of them are killed, at any step, and leave odd sequence numbers and claimed slots.
   Readers look for key 0, mark the tag as visited and may call again.

   Asserted at every hit: the row is whole, it is the key's, it was published before, it is not
   older than what was published when the call began (a removed or evicted row never comes back),
   nor than this reader's last hit.

   Left out: weak memory (the planted LATEOPEN, EARLYCLOSE and REREADFIRST are what a lacking fence
   would do); the retries of a reader (a second call stands for them); a ver that wraps between two
   loads of one reader: VM=63 never does, VM=3 (two bits) may, and no error is reachable with it.

   Configuration: NS slots (3), VM mask of ver (63), NW writers (2), PUTS each (2), NR readers (1),
   CALLS each (2), MAXD deaths (0).
   Planted faults: NOVER the reader does not compare ver. NOKEY it does not compare the key.
   REREADFIRST it reads the sequence number again before the row. LATEOPEN the writer makes the
   number odd after the row. EARLYCLOSE it makes it even, and publishes, before the row.
   PLAINMARK the visited bit is a plain store. */
#ifndef NS
#define NS 3
#endif
#ifndef VM
#define VM 63
#endif
#ifndef NW
#define NW 2
#endif
#ifndef PUTS
#define PUTS 2
#endif
#ifndef NR
#define NR 1
#endif
#ifndef CALLS
#define CALLS 2
#endif
#ifndef MAXD
#define MAXD 0
#endif

/* tag = ver | visited 1 | slot 2 | valid 1 */
#define VALID(t) ((t) & 1)
#define SLOT(t) (((t) >> 1) & 3)
#define VISITED 8
#define VER(t) ((t) >> 4)
#define VER_OF(q) (((q) >> 1) & VM)
#define TAG(s, q) (1 + ((s) << 1) + (VER_OF(q) << 4))

short tag;
byte seq[NS];
bit key[NS];
byte row0[NS];
byte row1[NS];

/* Ghosts: who fills a slot; of each row ever written its key and its place in the key's history. */
byte owner[NS];
bool dead[NW + 1];
byte deaths;
bit keyOf[1 + PUTS * NW];
byte place[1 + PUTS * NW];
byte last[2];

#define IS_FREE(s) ((owner[s] == 0 || dead[owner[s]]) && !(VALID(tag) && SLOT(tag) == (s)))

inline retire() /* the entry that the tag names ends here */
{
  if
  :: VALID(tag) -> k = key[SLOT(tag)]; last[k]++
  :: else -> skip
  fi
}

#define OPEN                                                                                       \
  atomic { q = seq[s]; q = (q | 1) + (q & 1) * 2; seq[s] = q } /* next odd, also after a death */
#define CLOSE atomic { seq[s] = q + 1 }
#define PUBLISH                                                                                    \
  atomic {                                                                                         \
    retire(); k = kk; tag = TAG(s, q + 1); last[k]++; place[v] = last[k]; owner[s] = 0             \
  }
#define COPY key[s] = kk; row0[s] = v; row1[s] = v

proctype writer(byte id)
{
  byte n, s, q, v;
  bit k, kk;
  {
    do
    :: n == PUTS -> break
    :: n < PUTS ->
      n++;
      if
      :: atomic { VALID(tag) -> retire(); tag = tag - 1; k = 0 } /* remove */
      :: atomic {
           v = (id - 1) * PUTS + n;
           if :: kk = 0 :: kk = 1 fi;
           keyOf[v] = kk;
           if
           :: IS_FREE(0) -> s = 0
           :: IS_FREE(1) -> s = 1
#if NS > 2
           :: IS_FREE(2) -> s = 2
#endif
           fi;
           owner[s] = id
         };
#if defined(LATEOPEN)
         COPY; OPEN; CLOSE; PUBLISH;
#elif defined(EARLYCLOSE)
         OPEN; CLOSE; PUBLISH; COPY;
#else
         OPEN; COPY; CLOSE; PUBLISH;
#endif
         atomic { s = 0; q = 0; v = 0; k = 0; kk = 0 }
      fi
    od
  } unless { atomic { dead[id] -> n = 0; s = 0; q = 0; v = 0; k = 0; kk = 0 } }
}

proctype reader()
{
  short t;
  byte n, a, b, x, y, since, seen;
  do
  :: n == CALLS -> break
  :: n < CALLS ->
    atomic { n++; since = last[0]; t = tag };
    if
    :: !VALID(t) -> goto done
    :: else -> skip
    fi;
    a = seq[SLOT(t)];
#ifdef NOVER
    if :: a & 1 -> goto done :: else -> skip fi;
#else
    if :: (a & 1) || VER_OF(a) != VER(t) -> goto done :: else -> skip fi;
#endif
#ifndef NOKEY
    if :: key[SLOT(t)] != 0 -> goto done :: else -> skip fi;
#endif
#ifdef REREADFIRST
    b = seq[SLOT(t)];
    x = row0[SLOT(t)];
    y = row1[SLOT(t)];
#else
    x = row0[SLOT(t)];
    y = row1[SLOT(t)];
    b = seq[SLOT(t)];
#endif
    atomic {
      if
      :: a == b ->
        assert(x == y);
        assert(x > 0 && keyOf[x] == 0);
        assert(place[x] > 0);
        assert(place[x] >= since);
        assert(place[x] >= seen);
        seen = place[x]
      :: else -> goto done
      fi
    };
    if
    :: t & VISITED -> skip
    :: else ->
#ifdef PLAINMARK
      tag = t | VISITED
#else
      atomic { if :: tag == t -> tag = t | VISITED :: else -> skip fi }
#endif
    fi;
done:
    atomic { t = 0; a = 0; b = 0; x = 0; y = 0; since = 0 }
  od
}

#if MAXD
proctype killer()
{
  byte w;
  do
  :: deaths == MAXD -> break
  :: deaths < MAXD ->
    atomic {
      if :: w = 1 :: w = 2 fi;
      if :: !dead[w] -> dead[w] = true; deaths++ :: else -> skip fi;
      w = 0
    }
  :: break
  od
}
#endif

init
{
  byte i;
  atomic {
    for (i : 1 .. NW) { run writer(i) }
    for (i : 1 .. NR) { run reader() }
#if MAXD
    run killer()
#endif
  }
}
