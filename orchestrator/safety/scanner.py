"""Say what in a text looks like an order to an agent. This raises suspicion and protects nothing.

It looks for few things that honest texts hardly hold: a false system message, an order that is addressed
to whoever reads by machine, an order to drop earlier orders, and any of these under an encoding. What
is quoted, told or explained is none: a warning that comes too often is read by nobody.
"""

from __future__ import annotations

import re

from orchestrator.safety.cleaning import Cleaned
from orchestrator.safety.views import bounded, folded, turned, views

MANY_HIDDEN = 8
"""Hidden characters from which on they are no accident of typesetting."""

_MACHINE = (
    r"(?:(?:any|all|every|dear|the|an?|you)\s+){0,2}(?:(?:ai|llm|language|automated|autonomous|coding"
    r"|digital)[ -]+){1,2}"
    r"(?:agents?|assistants?|models?|bots?|systems?|tools?|readers?)"
)
"""A reader that is a machine; an agent alone is usually a program or a person."""
_MARKUP = re.compile(
    r"\[/?inst\]|<</?sys>>|<\|?(?:im_start|im_end|start_header_id|endoftext)\|?>|</?(?:tool_call"
    r"|function_calls?"
    r"|tool_response|system-reminder|system_prompt)\b"
    r"|</?data [0-9a-f]{6,}|\[(?:data|end) [0-9a-f]{6,}"
    r"|\"role\"\s*:\s*\"(?:system|developer)\""
    r"|^\W{0,12}(?:system|developer|operator|admin(?:istrator)?) (?:message|prompt|notice|override"
    r"|instruction|command)\b"
    r"(?: \([^)\n]{0,40}\)| \d+)?\s?[:\]]"
    r"|\boperator override \d|#{2,}\s*(?:end )?system\s*#{2,}|^\W{0,6}system\s*:\s+(?:you|ignore"
    r"|the user|from now|new|override)\b",
    re.MULTILINE,
)
_ADDRESSED = re.compile(
    rf"\b(?:{_MACHINE}|assistants?|llms?|ais)\s+(?:must(?! (?:be|have|not be|support))|shall|reading this"
    r"|are (?:required|instructed|ordered) to)\b"
    rf"|\b(?:note|notice|instructions?|message|attention|important|hint|task|hello|hi|dear|hey)\b\W{{0,4}}"
    rf"(?:(?:for|to)\s+)(?:{_MACHINE}|assistants?|llms?|ais?)\b"
    r"|(?:^|<!--|[.!?;>|\"'\[(*]\s*)\s?(?:ai assistant|ai agents?|ai|assistant|llm|language model)\s*[:,] "
    r"(?!assistant|ai\b)(?:please |now |you )?[a-z]{2,}"
    r"|\bif you(?:'re| are) an? (?:ai|llm|language model|automated|assistant|bot)\b"
    r"|\bthe (?:reading software|model) (?:must|should) (?:call|open|run|send|execute|visit)\b",
    re.MULTILINE,
)
_DRAWN = re.compile(
    r"https?://[^\s\"'<>]{3,200}?[=?/](?:\{\{|<|\$\(|\[)[^>}\n]{0,40}(?:conversation|messages?|prompt"
    r"|history|contents?|secret|env)"
    r"|\b(?:send|post|upload|forward|transmit|copy)\b[^.\n]{0,60}(?:\.env\b|id_rsa|\.ssh/|private keys?"
    r"|environment "
    r"variables|all (?:previous )?messages)[^\n]{0,60}(?:https?://|\w@\w)"
)
"""An address that wants to be filled in, or a file of secrets that is to go to one."""
_ORDERS = (
    r"(?:instructions?|directions?|directives?|guidelines?|rules?|prompts?|orders?|policies"
    r"|constraints?|restrictions?"
    r"|tasks?|system message)"
)
_DROP = re.compile(
    r"(?:^|[.!?;:,>|\"'\[(*#\-\n]\s*|\b(?:please|now|must|you should|and|then|instead)\s+)"
    r"(?:ignore|disregard|forget|override|bypass|drop|discard|do not follow|stop following"
    r"|pay no attention to)\s+"
    r"(?:(?:all|any|every|the|your|my|these|those|of|previous|prior|above|earlier|preceding|former"
    r"|initial|original|"
    rf"other|user'?s?|system|safety)\s+){{1,5}}{_ORDERS}"
    r"|\b(?:new|updated|real|actual|true) (?:system )?(?:instructions?|task|job|objective"
    r"|orders?)\b\s*(?::|is to\b)"
)
_DROP_ELSEWHERE = re.compile(
    r"(?:ignorier\w*|vergiss|vergessen sie|missachte\w*)\s(?:\w+\s){0,4}(?:anweisung|anleitung|vorgabe"
    r"|regel|befehl|instruktion)"
    r"|(?:oublie[zr]?|ignore[zr]?|ne tiens? pas compte)\s(?:des?|les|ces|toutes|tous|vos|tes|la|le"
    r"|l')\s?(?:\S+\s){0,4}(?:consigne|instruction|directive|règle|ordre)"
    r"|(?:ignor[ae]|olvid[ae]|desoiga)\s(?:\S+\s){0,4}(?:instruccion|orden|regla|indicacion|directri)"
    r"|(?:ignor[ae]|esque[çc]a|desconsidere)\s(?:\S+\s){0,4}(?:instruç|regra)"
    r"|(?:ignora|dimentica|trascura)\s(?:\S+\s){0,4}(?:istruzion|ordin|regol|direttiv)"
    r"|(?:negeer|vergeet)\s(?:\S+\s){0,4}(?:instructie|opdracht|regel)"
    r"|(?:zignoruj|zapomnij)\s(?:\S+\s){0,4}(?:instrukcj|polece|zasad)"
    r"|(?:игнориру\w+|забудь\w*|не обращай\w*)\s(?:\S+\s){0,4}(?:инструкци|указани|правил|команд)"
    r"|(?:önceki|yukar\w+daki)\s(?:\S+\s){0,3}(?:talimat|kural|komut)\S*\s(?:\S+\s){0,2}(?:yok say|unut"
    r"|gormezden|görmezden)"
    r"|(?:忽略|无视|無視|忘记|忘掉|不要理会)[^。\n]{0,8}(?:之前|以前|先前|上述|上面|以上|所有|一切)[^。\n]{0,8}(?:指令|指示|说明|規則|规则|提示|命令)"
    r"|(?:以前|これまで|上記|前)の?[^。\n]{0,6}(?:指示|命令|ルール|プロンプト)[^。\n]{0,6}(?:無視|忘れ)"
    r"|(?:이전|앞의|위의)\s?[^.\n]{0,8}(?:지시|명령|규칙)[^.\n]{0,8}(?:무시|잊)"
    r"|(?:पिछले|पहले के|उपरोक्त)\s[^।\n]{0,12}(?:निर्देश|आदेश|नियम)\S*\s[^।\n]{0,8}(?:अनदेखा|नज़रअंदाज|भूल)"
    r"|(?:تجاهل|انس)\s(?:\S+\s){0,3}(?:التعليمات|الأوامر|الإرشادات|القواعد)"
    r"|התעלם?\S*\s(?:\S+\s){0,3}(?:ההוראות|ההנחיות|הכללים)"
)
_QUOTED = re.compile(
    r"\"[^\"\n]{0,200}\"|“[^”\n]{0,200}”|„[^“\n]{0,200}“|«[^»\n]{0,200}»|`[^`\n]{0,200}`"
    r"|(?<!\w)'[^'\n]{0,200}'(?!\w)"
)
_DECODES = re.compile(
    r"\b(?:base64|rot13|hex|decode|decrypt)\b[^.\n]{0,60}\b(?:follow|execute|obey|carry out"
    r"|act on)\b (?:it|them|blob|that|the|what)"
    r"|\bjoin\b[^.\n]{0,40}\bcarry out\b"
)
_DOES = re.compile(
    r"\b(?:rm -rf|curl |wget |https?://|\.env\b|id_rsa|auto.?approve|delete|destroy|upload|send|post"
    r"|exfiltrat|run:|execute)"
)


def suspicions(cleaned: Cleaned) -> list[str]:
    """What speaks for an order in a text, each in a few words for a warning; usually nothing."""
    found: dict[str, None] = {}
    if cleaned.spelt.strip() or cleaned.hidden >= MANY_HIDDEN or cleaned.turned:
        found["hidden characters"] = None
    readings = views(cleaned.text)
    for depth, view in enumerate(readings):
        plain = folded(view)
        found |= dict.fromkeys(_orders(plain, is_decoded=depth > 0))
        if _DROP_ELSEWHERE.search(_QUOTED.sub(" ", view.casefold())):
            found["an order to drop earlier orders"] = None
    if any(_DROP.search(folded(view)) for view in turned(bounded(cleaned.text))):
        found["an encoded order"] = None
    return list(found)


def _orders(plain: str, *, is_decoded: bool) -> list[str]:
    """What one reading of a text shows."""
    if is_decoded:
        orders = _MARKUP.search(plain) or _ADDRESSED.search(plain) or _DROP.search(plain)
        return ["an encoded order"] if orders or (len(plain) < 2_000 and _DOES.search(plain)) else []
    told = _QUOTED.sub(" ", plain)
    found = []
    if _MARKUP.search(plain):
        found.append("a false system message")
    if _ADDRESSED.search(told):
        found.append("an order to whoever reads by machine")
    if _DROP.search(told):
        found.append("an order to drop earlier orders")
    if _DRAWN.search(plain):
        found.append("an address that asks for data")
    if _DECODES.search(told):
        found.append("an order to decode and obey")
    return found
