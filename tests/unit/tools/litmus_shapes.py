"""Classic shapes in herd's C format, with the verdict of each model.

The verdicts follow from the definitions in Lahav and others, "Repairing Sequential Consistency in
C/C++11" (2017), for rc11; Podkopaev and others, "Bridging the Gap between Programming Languages and
Hardware Weak Memory Models" (2019), for weak; Owens and others, "A Better x86 Memory Model" (2009),
for tso. Arm itself forbids 2+2W+rel and IRIW+acq, which C11 and IMM allow.
"""

# A statement: W place value order, R place order, F order; A adds 1, X writes 1, D writes what the
# load before found, C writes 1 if that is not 0.
_ORDERS = {"rlx": "relaxed", "acq": "acquire", "rel": "release", "ar": "acq_rel", "sc": "seq_cst"}
# Name: threads, condition, and what sc, tso, rc11 and weak say: Forbidden or Allowed.
_MP, _SB, _LB = "1:r0=1 /\\ 1:r1=0", "0:r0=0 /\\ 1:r0=0", "0:r0=1 /\\ 1:r0=1"
_IRIW = "1:r0=1 /\\ 1:r1=0 /\\ 2:r0=1 /\\ 2:r1=0"
_S, _R, _WW = "1:r0=1 /\\ x=2", "1:r0=0 /\\ y=2", "x=1 /\\ y=1"
_WRC = "1:r0=1 /\\ 2:r0=1 /\\ 2:r1=0"
_ISA2 = "1:r0=1 /\\ 2:r0=1 /\\ 2:r1=0"
SHAPES = {
    "MP": (["Wx1rlx Wy1rlx", "Ryrlx Rxrlx"], _MP, "FFAA"),
    "MP+rel+acq": (["Wx1rlx Wy1rel", "Ryacq Rxrlx"], _MP, "FFFF"),
    "MP+rel+rlx": (["Wx1rlx Wy1rel", "Ryrlx Rxrlx"], _MP, "FFAA"),
    "MP+rlx+acq": (["Wx1rlx Wy1rlx", "Ryacq Rxrlx"], _MP, "FFAA"),
    "MP+frel+facq": (["Wx1rlx Frel Wy1rlx", "Ryrlx Facq Rxrlx"], _MP, "FFFF"),
    "MP+rel+facq": (["Wx1rlx Wy1rel", "Ryrlx Facq Rxrlx"], _MP, "FFFF"),
    "MP+frel+acq": (["Wx1rlx Frel Wy1rlx", "Ryacq Rxrlx"], _MP, "FFFF"),
    "MP+sc": (["Wx1sc Wy1sc", "Rysc Rxsc"], _MP, "FFFF"),
    "MP+relseq": (["Wx1rlx Wy1rel", "Ayrlx", "Ryacq Rxrlx"], "2:r0=2 /\\ 2:r1=0", "FFFF"),
    "SB": (["Wx1rlx Ryrlx", "Wy1rlx Rxrlx"], _SB, "FAAA"),
    "SB+rel+acq": (["Wx1rel Ryacq", "Wy1rel Rxacq"], _SB, "FAAA"),
    "SB+sc": (["Wx1sc Rysc", "Wy1sc Rxsc"], _SB, "FFFF"),
    "SB+fsc": (["Wx1rlx Fsc Ryrlx", "Wy1rlx Fsc Rxrlx"], _SB, "FFFF"),
    "SB+fsc+po": (["Wx1rlx Fsc Ryrlx", "Wy1rlx Rxrlx"], _SB, "FAAA"),
    "SB+far": (["Wx1rlx Far Ryrlx", "Wy1rlx Far Rxrlx"], _SB, "FAAA"),
    "SB+rmw": (["Xxar Ryrlx", "Xyar Rxrlx"], "0:r1=0 /\\ 1:r1=0", "FFAA"),
    "LB": (["Rxrlx Wy1rlx", "Ryrlx Wx1rlx"], _LB, "FFFA"),
    "LB+acq+po": (["Rxacq Wy1rlx", "Ryrlx Wx1rlx"], _LB, "FFFA"),
    "LB+acqs": (["Rxacq Wy1rlx", "Ryacq Wx1rlx"], _LB, "FFFF"),
    "LB+rels": (["Rxrlx Wy1rel", "Ryrlx Wx1rel"], _LB, "FFFF"),
    "LB+fences": (["Rxrlx Far Wy1rlx", "Ryrlx Far Wx1rlx"], _LB, "FFFF"),
    "LB+datas": (["Rxrlx Dyrlx", "Ryrlx Dxrlx"], _LB, "FFFF"),
    "LB+data+po": (["Rxrlx Dyrlx", "Ryrlx Wx1rlx"], _LB, "FFFA"),
    "LB+ctrls": (["Rxrlx Cyrlx", "Ryrlx Cxrlx"], _LB, "FFFF"),
    "LB+ctrl+po": (["Rxrlx Cyrlx", "Ryrlx Wx1rlx"], _LB, "FFFA"),
    "3.LB": (["Rxrlx Wy1rlx", "Ryrlx Wz1rlx", "Rzrlx Wx1rlx"], f"{_LB} /\\ 2:r0=1", "FFFA"),
    "S": (["Wx2rlx Wy1rlx", "Ryrlx Wx1rlx"], _S, "FFAA"),
    "S+rel+acq": (["Wx2rlx Wy1rel", "Ryacq Wx1rlx"], _S, "FFFF"),
    "S+rel+po": (["Wx2rlx Wy1rel", "Ryrlx Wx1rlx"], _S, "FFAA"),
    "R": (["Wx1rlx Wy1rlx", "Wy2rlx Rxrlx"], _R, "FAAA"),
    "R+rel+acq": (["Wx1rel Wy1rel", "Wy2rel Rxacq"], _R, "FAAA"),
    "R+fsc": (["Wx1rlx Fsc Wy1rlx", "Wy2rlx Fsc Rxrlx"], _R, "FFFF"),
    "R+sc": (["Wx1sc Wy1sc", "Wy2sc Rxsc"], _R, "FFFF"),
    "2+2W": (["Wx1rlx Wy2rlx", "Wy1rlx Wx2rlx"], _WW, "FFAA"),
    "2+2W+rel": (["Wx1rel Wy2rel", "Wy1rel Wx2rel"], _WW, "FFAA"),
    "2+2W+fsc": (["Wx1rlx Fsc Wy2rlx", "Wy1rlx Fsc Wx2rlx"], _WW, "FFFF"),
    "2+2W+sc": (["Wx1sc Wy2sc", "Wy1sc Wx2sc"], _WW, "FFFF"),
    "IRIW": (["Wx1rlx", "Rxrlx Ryrlx", "Ryrlx Rxrlx", "Wy1rlx"], _IRIW, "FFAA"),
    "IRIW+acq": (["Wx1rel", "Rxacq Ryacq", "Ryacq Rxacq", "Wy1rel"], _IRIW, "FFAA"),
    "IRIW+fsc": (["Wx1rlx", "Rxrlx Fsc Ryrlx", "Ryrlx Fsc Rxrlx", "Wy1rlx"], _IRIW, "FFFF"),
    "IRIW+sc": (["Wx1sc", "Rxsc Rysc", "Rysc Rxsc", "Wy1sc"], _IRIW, "FFFF"),
    "WRC": (["Wx1rlx", "Rxrlx Wy1rlx", "Ryrlx Rxrlx"], _WRC, "FFAA"),
    "WRC+rel+acq": (["Wx1rel", "Rxacq Wy1rel", "Ryacq Rxrlx"], _WRC, "FFFF"),
    "ISA2": (["Wx1rlx Wy1rlx", "Ryrlx Wz1rlx", "Rzrlx Rxrlx"], _ISA2, "FFAA"),
    "ISA2+rel+acq": (["Wx1rlx Wy1rel", "Ryacq Wz1rel", "Rzacq Rxrlx"], _ISA2, "FFFF"),
    "CoRR": (["Wx1rlx", "Rxrlx Rxrlx"], "1:r0=1 /\\ 1:r1=0", "FFFF"),
    "CoWW": (["Wx1rlx Wx2rlx", "Rxrlx"], "x=1", "FFFF"),
    "CoRW": (["Rxrlx Wx1rlx", "Rxrlx"], "0:r0=1", "FFFF"),
    "CoWR": (["Wx1rlx Rxrlx", "Wx2rlx"], "0:r0=2 /\\ x=1", "FFFF"),
    "RMW": (["Axrlx", "Axrlx"], "0:r0=0 /\\ 1:r0=0", "FFFF"),
}


def _statement(text: str, register: int) -> str:
    kind, rest = text[0], text[1:]
    place, value = rest[:1], rest[1:2]
    name = next(n for n in sorted(_ORDERS, key=len, reverse=True) if text.endswith(n))
    order = f"memory_order_{_ORDERS[name]}"
    forms = {
        "W": f"atomic_store_explicit({place},{value},{order});",
        "D": f"atomic_store_explicit({place},r{register - 1},{order});",
        "C": f"if (r{register - 1}) {{ atomic_store_explicit({place},1,{order}); }}",
        "R": f"int r{register} = atomic_load_explicit({place},{order});",
        "A": f"int r{register} = atomic_fetch_add_explicit({place},1,{order});",
        "X": f"int r{register} = atomic_exchange_explicit({place},1,{order});",
        "F": f"atomic_thread_fence({order});",
    }
    return forms[kind]


def herd(name: str) -> str:
    """The shape as a text in herd's format."""
    threads, condition, _ = SHAPES[name]
    lines = [f"C {name}", "{ x = 0; }"]
    for number, thread in enumerate(threads):
        lines.append(f"P{number} (atomic_int* x, atomic_int* y, atomic_int* z) {{")
        register = 0
        for statement in thread.split():
            lines.append("  " + _statement(statement, register))
            register += statement[0] in "RAX"
        lines.append("}")
    return "\n".join([*lines, f"exists ({condition})", ""])
