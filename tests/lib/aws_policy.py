# SPDX-License-Identifier: ISC
"""Evaluates policies of AWS IoT Core as its developer guide describes them ("AWS IoT Core policies").

Only the elements that the guide's MQTT examples use are known. Any other element is an error, so that a policy is never
evaluated more generously than it is written.
"""

import re

ARN = "arn:aws:iot:eu-central-1:123456789012:"
CONNECT_ATTRIBUTES = "iot:ConnectAttributes"


def fill_in(policy_text, operator):
    """Returns the example's text with its three placeholders replaced, as the README describes."""
    region, account = ARN.split(":")[3:5]
    return policy_text.replace("REGION", region).replace("ACCOUNT", account).replace("OPERATOR", operator)


class Policy:
    """A policy attached to one certificate. @variables: of the connection, without those that have no value."""

    KNOWN = {"Effect", "Action", "Resource", "Condition", "Sid"}

    def __init__(self, document):
        assert document["Version"] == "2012-10-17"
        self.statements = document["Statement"]
        for statement in self.statements:
            assert statement["Effect"] in ("Allow", "Deny") and not set(statement) - self.KNOWN, statement

    def allows(self, action, resource, variables):
        """Whether the action, such as Publish, is allowed on the resource, such as topic/a/b. A Deny is stronger than any
        Allow."""
        effects = {s["Effect"] for s in self.statements if applies(s, f"iot:{action}", ARN + resource, variables)}
        return effects == {"Allow"}


def listed(value):
    return value if isinstance(value, list) else [value]


def applies(statement, action, resource, variables):
    return (any(matches(pattern, action, {}) for pattern in listed(statement["Action"])) and
            any(matches(pattern, resource, variables) for pattern in listed(statement["Resource"])) and
            is_fulfilled(statement, variables))


def matches(pattern, text, variables):
    """* is any text, ? is any character, ${x} is the value of a variable. The value and MQTT's + and # have no special meaning
    ("Using wildcard characters in MQTT and AWS IoT Core policies"). A variable without a value matches nothing."""
    expression = ""
    for part in re.split(r"(\$\{[^}]*\}|\*|\?)", pattern):
        if part.startswith("${"):
            name = part[2:-1]
            value = name if name in ("*", "?", "$") else variables.get(name)
            if value is None:
                return False
            expression += re.escape(value)
        else:
            expression += {"*": ".*", "?": "."}.get(part, re.escape(part))
    return re.fullmatch(expression, text, re.DOTALL) is not None


def for_all(values, wanted):
    return all(value in wanted for value in values)


def for_any(values, wanted):
    return any(value in wanted for value in values)


CONDITIONS = {"Bool": for_any, "StringEquals": for_any, "ForAllValues:StringEquals": for_all, "ForAnyValue:StringEquals": for_any}


def is_fulfilled(statement, variables):
    """Evaluates the conditions. A connection with attributes, such as a last will, needs a condition that names them: "A client
    must have an additional condition added to its connect permission" ("Policy to connect and publish retained Will messages",
    "Using connectAttributes")."""
    conditions = statement.get("Condition", {})
    is_named = any(CONNECT_ATTRIBUTES in keys for keys in conditions.values())
    if statement["Effect"] == "Allow" and variables.get(CONNECT_ATTRIBUTES) and not is_named:
        return False
    return all(CONDITIONS[operator](listed(variables.get(key, [])), listed(wanted))
               for operator, keys in conditions.items() for key, wanted in keys.items())
