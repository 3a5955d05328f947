"""Todo lo que se enseña: figuras y exploradores, por su nombre.

Es un servicio: dibuja, y ninguna idea del curso está aquí.
"""

from .boxes import diagram, surprise_strip, token_strip
from .charts import (
    before_after,
    calibration,
    curves,
    grouped_bars,
    heatmap,
    histogram,
    line,
    rates,
    roofline,
    roulette,
    scatter,
)
from .unit01 import token_explorer
from .unit02 import (
    attention_explorer,
    attention_steps,
    lens_explorer,
    rope_dials,
)
from .unit03 import temperature_explorer
from .unit04 import sampling_explorer
from .unit05 import generation_explorer, live
from .unit06 import cache_explorer
from .unit07 import cost_explorer
from .unit08 import chat_explorer
from .unit09 import control_explorer
from .unit10 import company_explorer, split_drawing
from .unit11 import draft_explorer
from .unit12 import page_map, server_explorer, timeline
from .unit13 import course_map, formula_sheet, passport_explorer
