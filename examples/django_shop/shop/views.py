"""Orders over HTTP, as JSON."""

import logging

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from shop.models import Order
from smsq import InvalidMessage, LedgerUnavailable, send_sms, status

log = logging.getLogger(__name__)


@require_POST
def create_order(request: HttpRequest) -> JsonResponse:
    """Take an order, and confirm it by SMS once it is committed."""
    order = Order(phone=request.POST.get("phone", ""))
    try:
        with transaction.atomic():
            order.sms_id = send_sms.delay_on_commit(**order.sms()).id
            order.save()
    except InvalidMessage as error:
        return JsonResponse({"error": str(error)}, status=400)
    except LedgerUnavailable:
        log.warning("order %s is taken; resend_sms will send its SMS", order.pk)
    return JsonResponse({"id": order.pk}, status=201)


@require_GET
def show_order(request: HttpRequest, order_id: int) -> JsonResponse:
    """Return what became of an order's SMS."""
    order = get_object_or_404(Order, pk=order_id)
    found = status(order.sms_id)
    return JsonResponse({"id": order.pk, "sms": found.state if found else "not sent yet"})
