"""A FastAPI app in which people log in with a code that is sent to their phone."""

import os
import secrets
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from itsdangerous import BadSignature, URLSafeTimedSerializer
from pydantic import BaseModel
from starlette.middleware.sessions import SessionMiddleware

import smsq
from smsq import verify

# All processes need the same: it signs sessions and device cookies.
SECRET = os.environ.get("LOGIN_SECRET") or secrets.token_urlsafe(32)
DEVICE = "device"
DEVICE_FOR_S = 90 * 24 * 3600
devices = URLSafeTimedSerializer(SECRET, salt=DEVICE)

app = FastAPI()
# Only HTTPS carries cookies, but on a developer's own machine.
https_only = os.environ.get("LOGIN_PLAIN_HTTP") != "1"
app.add_middleware(SessionMiddleware, secret_key=SECRET, https_only=https_only, same_site="lax")


class Number(BaseModel):
    """Who wants to log in."""

    phone: str


class Code(BaseModel):
    """What came by SMS."""

    code: str


@app.post("/login", status_code=202)
async def begin(number: Number, request: Request) -> dict[str, Any]:
    """Send a code. A limit per address belongs in front of this: each SMS costs money."""
    challenge = await verify.astart(
        number.phone, "SMS_LOGIN", known_device=is_known(request, number.phone)
    )
    # Of a number that was guessed at too often, for instance.
    if challenge.spent:
        wait_s = (challenge.resend_after - datetime.now(UTC)).total_seconds()
        raise HTTPException(429, "try again later", {"Retry-After": f"{max(1, wait_s):.0f}"})
    request.session["login"] = [challenge.id, challenge.message_id, number.phone]
    return {"resend_after": challenge.resend_after, "expires_at": challenge.expires_at}


@app.get("/login")
async def sent(request: Request) -> dict[str, str | None]:
    """Return what became of the SMS, so that the page can show that it failed."""
    _, message_id, _ = request.session.get("login") or ["", "", ""]
    status = await smsq.astatus(message_id)
    return {"state": status.state if status else None}


@app.post("/login/code")
async def finish(given: Code, request: Request, response: Response) -> dict[str, str]:
    """Log in with the code."""
    challenge_id, _, phone = request.session.get("login") or ["", "", ""]
    # The number comes from the session, so it is the one that the code was sent to.
    if not await verify.acheck(challenge_id, given.code):
        raise HTTPException(403, "wrong code, or too late")
    request.session.clear()
    request.session["phone"] = phone
    if not is_known(request, phone):
        remember(response, phone)
        # If a client calls again, the challenge was used up: nothing is sent twice.
        await smsq.send_sms.adelay(phone, "SMS_NEW_DEVICE", reference="new device")
    return {"phone": phone}


@app.get("/me")
async def me(request: Request) -> dict[str, str]:
    """Return who is logged in."""
    if "phone" not in request.session:
        raise HTTPException(401, "log in first")
    return {"phone": request.session["phone"]}


def is_known(request: Request, phone: str) -> bool:
    """Return whether this number was verified on this device before."""
    try:
        found: object = devices.loads(request.cookies.get(DEVICE, ""), max_age=DEVICE_FOR_S)
    except BadSignature:
        return False
    return found == phone


def remember(response: Response, phone: str) -> None:
    """Mark this device as known: strangers' wrong codes do not lock it out."""
    response.set_cookie(
        DEVICE, devices.dumps(phone), DEVICE_FOR_S, secure=https_only, httponly=True, samesite="lax"
    )


@app.exception_handler(smsq.InvalidMessage)
async def refused(_: Request, error: Exception) -> JSONResponse:
    """Answer with what is wrong with the number."""
    return JSONResponse({"detail": str(error)}, 422)


@app.exception_handler(smsq.LedgerUnavailable)
async def unavailable(_: Request, __: Exception) -> JSONResponse:
    """Answer 503, so that the caller tries again: a code that was sent is not sent again."""
    return JSONResponse({"detail": "try again"}, 503, {"Retry-After": "5"})
