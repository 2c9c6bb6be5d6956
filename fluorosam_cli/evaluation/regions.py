"""The region of the body a structure is counted in, for means by region."""

import re
from functools import cache

from fluorosam_cli.anatomy.structures import names

REGIONS = {  # the first pattern that fits a name, side left out, decides
    "spine": r"vertebrae|spine|sacrum|intervertebral|spinal_cord",
    "head and neck": r"brain|skull|teeth|mandible|hyoid|thyroid|common_carotid",
    "upper limb": r"humer|radius|ulna|forearm|carpal|metacarpal|hand|scapul|clavicul|shoulder",
    "lower limb": r"femur|femora|tibia|fibula|lower_leg|patella|tarsal|metatarsal|foot|feet",
    "pelvis": r"hip|pelvis|urinary|prostate|iliac|iliopsoas|gluteal|gluteus",
    "chest": r"lung|heart|cardiac|mediastinum|rib|sternum|costal|aorta|pulmonary|brachiocephalic|subclavian|atrial"
    r"|superior_vena|trachea|bronchus|esophagus|diaphragm",
    "abdomen": r"spleen|kidney|gallbladder|liver|stomach|pancreas|adrenal|bowel|duodenum|colon|inferior_vena|portal",
    "whole body": r"skin|autochthon",
}


@cache
def region_of(name: str) -> str:
    """`femur_left` -> `lower limb`; what is no anatomy is a tool."""
    if name not in names():
        return "tools"
    return next((region for region, pattern in REGIONS.items() if re.search(pattern, name)), "other")
